package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/cmd/namedlock/internal/optionfile"
)

// serverFlags are the flags that set the server.
type serverFlags struct {
	dsn, defaultsFile string

	program string    // the program name that the server shows; if empty, namedlock
	stderr  io.Writer // for a warning
}

// define adds them to the flags of a command.
func (f *serverFlags) define(flags *flag.FlagSet) {
	for name, value := range map[string]*string{"dsn": &f.dsn, "defaults-file": &f.defaultsFile} {
		flags.Func(name, "", func(text string) error {
			if *value = text; text == "" { // for example from an unset variable: another source could name the wrong server
				return errors.New("must not be empty")
			}
			return nil
		})
	}
}

// open returns a Locker on the server, and its db. It does no I/O.
func (f serverFlags) open(opts ...namedlock.Option) (*namedlock.Locker, *sql.DB, error) {
	config, err := f.config()
	if err != nil {
		return nil, nil, usageError{err}
	}
	return f.openConfig(config, opts...)
}

func (f serverFlags) openConfig(config *mysql.Config, opts ...namedlock.Option) (*namedlock.Locker, *sql.DB, error) {
	config.Logger = &mysql.NopLogger{} // the errors say it
	if config.Timeout == 0 {
		config.Timeout = 5 * time.Second
	}
	if !strings.Contains(config.ConnectionAttributes, "program_name:") {
		program := cmp.Or(strings.ReplaceAll(f.program, ",", " "), "namedlock")
		config.ConnectionAttributes = strings.Trim(config.ConnectionAttributes+",program_name:"+program, ",")
	}
	if machine, err := os.Hostname(); err == nil && !strings.Contains(config.ConnectionAttributes, "client_host:") {
		config.ConnectionAttributes += ",client_host:" + strings.ReplaceAll(machine, ",", " ")
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, nil, usageError{err}
	}
	db := sql.OpenDB(connector)
	locker, err := namedlock.Open(db, opts...)
	return locker, db, err
}

func (f serverFlags) config() (*mysql.Config, error) {
	switch env := os.Getenv("NAMEDLOCK_DSN"); {
	case f.dsn != "" && f.defaultsFile != "":
		return nil, errors.New("-dsn and -defaults-file both name a server; give only one of them")
	case f.dsn != "":
		return parseDSN("-dsn", f.dsn)
	case f.defaultsFile != "":
		return f.fromOptionFile(f.defaultsFile)
	case env != "":
		return parseDSN("$NAMEDLOCK_DSN", env)
	}
	const none = "no server configured: set -dsn, $NAMEDLOCK_DSN or -defaults-file (the default, ~/.my.cnf, does not exist)"
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, errors.New(none)
	}
	config, err := f.fromOptionFile(filepath.Join(home, ".my.cnf"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New(none)
	}
	return config, err
}

// parseDSN puts no part of the DSN into an error: in a wrong DSN, any part can
// contain a password.
func parseDSN(source, dsn string) (*mysql.Config, error) {
	config, err := mysql.ParseDSN(dsn)
	if err == nil && slices.Contains(networks, config.Net) {
		return config, nil
	}
	return nil, errors.New(source + " is not a valid DSN (want user:password@tcp(host:3306)/): " + whyNot(dsn, err))
}

// networks are the networks that the command can dial.
var networks = []string{"tcp", "tcp4", "tcp6", "unix"}

// parameters are the DSN parameters whose values the driver checks.
var parameters = []string{
	"allowAllFiles", "allowCleartextPasswords", "allowFallbackToPlaintext", "allowNativePasswords", "allowOldPasswords", "checkConnLiveness", "clientFoundRows",
	"collation", "columnsWithAlias", "compress", "connectionAttributes", "interpolateParams", "loc", "maxAllowedPacket", "multiStatements", "parseTime",
	"readTimeout", "rejectReadOnly", "serverPubKey", "strict", "timeTruncate", "timeout", "tls", "writeTimeout",
}

// whyNot returns the reason, without any part of the DSN.
func whyNot(dsn string, err error) string {
	const constant = "invalid DSN: " // the driver's errors that begin so quote nothing
	if err != nil && strings.HasPrefix(err.Error(), constant) {
		return strings.TrimPrefix(err.Error(), constant)
	}
	end := strings.LastIndexByte(dsn, '/') + 1
	if config, err := mysql.ParseDSN(dsn[:end]); err != nil || !slices.Contains(networks, config.Net) {
		return "put the host in tcp(…)"
	}
	_, query, _ := strings.Cut(dsn[end:], "?")
	for pair := range strings.SplitSeq(query, "&") {
		key, _, _ := strings.Cut(pair, "=")
		if _, err := mysql.ParseDSN("tcp(host:1)/?" + pair); err != nil && slices.Contains(parameters, key) {
			return "the value of " + key + " is not valid"
		}
	}
	return "the part after the last / is not valid (write % as %25 there)"
}

// noMatter are keys of clients that do not affect locks.
var noMatter = map[string]bool{
	"auto-rehash": true, "beep": true, "character-sets-dir": true, "compress": true, "compression-algorithms": true, "database": true,
	"default-auth": true, "default-character-set": true, "get-server-public-key": true, "init-command": true, "line-numbers": true, "local-infile": true,
	"max-allowed-packet": true, "net-buffer-length": true, "pager": true, "plugin-dir": true, "prompt": true, "quick": true,
	"reconnect": true, "secure-auth": true, "verbose": true, "zstd-compression-level": true,
}

// sockets are the usual sockets of servers, for a file without host and socket.
var sockets = []string{"/run/mysqld/mysqld.sock", "/var/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock"}

// A client is the content of an option file.
type client struct {
	config             *mysql.Config
	host, port, socket string
	protocol, mode     string
	modeAt             optionfile.Setting
	ca, cert, key      string
	verifies           bool
}

func (f serverFlags) fromOptionFile(file string) (*mysql.Config, error) {
	settings, err := optionfile.Read(file, "client", "client-server", "client-mariadb")
	switch {
	case err != nil:
		return nil, err
	case len(settings) == 0: // after a typo in the group, the default server would be used
		return nil, errors.New("option file " + file + " has no settings in [client]")
	}
	c := client{config: mysql.NewConfig(), port: "3306"}
	for _, s := range settings {
		if err := c.set(s); err != nil {
			return nil, err
		}
		if s.Key == "password" && s.Open {
			sayTo(f.stderr, fmt.Sprintf("warning: all users can read the password in %s; run chmod 600 %[1]s", s.File))
		}
	}
	if err := c.dial(); err != nil {
		return nil, err
	}
	if c.config.User == "" { // as in the clients
		if login, err := user.Current(); err == nil {
			c.config.User = login.Username
		}
	}
	return c.config, c.secure()
}

func (c *client) set(s optionfile.Setting) error {
	key, on := s.Key, !s.Given || isOn(s.Value)
	switch key {
	case "user":
		c.config.User = s.Value
	case "password":
		if !s.Given {
			return s.Errorf("password has no value, and namedlock does not prompt for one")
		}
		c.config.Passwd = s.Value
	case "host":
		c.host = s.Value
	case "port":
		if n, err := strconv.ParseUint(s.Value, 10, 16); err != nil || n == 0 {
			return s.Errorf("port is a number from 1 to 65535, not %q", s.Value)
		}
		c.port = s.Value
	case "socket":
		c.socket = s.Value
	case "protocol":
		c.protocol = strings.ToLower(s.Value)
		if c.protocol != "tcp" && c.protocol != "socket" {
			return s.Errorf("protocol is tcp or socket, not %q", s.Value)
		}
	case "connect-timeout":
		n, err := strconv.ParseUint(s.Value, 10, 31)
		if err != nil {
			return s.Errorf("connect-timeout is a number of seconds, not %q", s.Value)
		}
		c.config.Timeout = time.Duration(n) * time.Second
	case "enable-cleartext-plugin":
		c.config.AllowCleartextPasswords = on
	case "ssl-ca":
		c.ca = s.Value
	case "ssl-cert":
		c.cert = s.Value
	case "ssl-key":
		c.key = s.Value
	case "ssl-verify-server-cert":
		c.verifies = on
	case "disable-ssl-verify-server-cert", "skip-ssl-verify-server-cert":
		c.verifies = false
	case "skip-ssl", "disable-ssl":
		c.mode, c.modeAt = "DISABLED", s
	case "ssl":
		c.mode, c.modeAt = "REQUIRED", s
		if !on {
			c.mode = "DISABLED"
		}
	case "ssl-mode":
		c.mode, c.modeAt = strings.ToUpper(s.Value), s
	default:
		bare := strings.TrimPrefix(strings.TrimPrefix(key, "skip-"), "no-")
		if !noMatter[key] && !noMatter[bare] && !strings.HasPrefix(key, "loose-") {
			return s.Errorf("unknown key %q (known: host, port, socket, protocol, user, password, connect-timeout, "+
				"ssl, ssl-mode, ssl-ca, ssl-cert, ssl-key, ssl-verify-server-cert); prefix it with loose- to ignore it", key)
		}
	}
	return nil
}

func isOn(value string) bool {
	switch strings.ToLower(value) {
	case "0", "off", "false":
		return false
	}
	return true
}

// dial sets the address of the server. As in the clients, localhost means the
// socket.
func (c *client) dial() error {
	local := c.host == "" || c.host == "localhost"
	if c.socket == "" && local && c.protocol != "tcp" {
		for _, socket := range sockets {
			if _, err := os.Stat(socket); err == nil {
				c.socket = socket
				break
			}
		}
	}
	switch {
	case c.protocol == "socket" && c.socket == "":
		return errors.New("protocol=socket, but no socket is set and none exists at the usual paths")
	case c.protocol != "tcp" && local && c.socket != "", c.protocol == "socket":
		c.config.Net, c.config.Addr = "unix", c.socket
	default:
		if c.host == "" {
			c.host = "127.0.0.1"
		}
		c.config.Net, c.config.Addr = "tcp", net.JoinHostPort(c.host, c.port)
	}
	return nil
}

// secure sets up TLS. As in MySQL's client, the default is TLS if the server
// supports it. With an ssl-ca, the certificate chain is verified.
func (c *client) secure() error {
	mode := c.mode
	switch {
	case c.verifies && mode != "DISABLED":
		mode = "VERIFY_IDENTITY"
	case c.ca != "" && (mode == "" || mode == "REQUIRED"):
		mode = "VERIFY_CA"
	case mode == "" && c.config.Net == "unix":
		mode = "DISABLED"
	case mode == "":
		mode = "PREFERRED"
	}
	t := &tls.Config{InsecureSkipVerify: true} // except in the modes that verify
	switch mode {
	case "DISABLED":
		return nil
	case "PREFERRED":
		c.config.AllowFallbackToPlaintext = true
	case "REQUIRED":
	case "VERIFY_CA":
		t.VerifyConnection = func(state tls.ConnectionState) error { return verifyChain(t.RootCAs, state) }
	case "VERIFY_IDENTITY":
		t.InsecureSkipVerify = false
	default:
		return c.modeAt.Errorf("ssl-mode is DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY, not %q", mode)
	}
	if c.ca != "" {
		text, err := os.ReadFile(c.ca)
		if err != nil {
			return errors.New("ssl-ca cannot be read: " + err.Error())
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(text) {
			return errors.New("ssl-ca has no certificate in PEM: " + c.ca)
		}
	}
	if c.cert != "" || c.key != "" {
		pair, err := tls.LoadX509KeyPair(c.cert, c.key)
		if err != nil {
			return errors.New("ssl-cert and ssl-key cannot be used: " + err.Error())
		}
		t.Certificates = []tls.Certificate{pair}
	}
	c.config.TLS = t
	return nil
}

// verifyChain verifies the certificate chain of the server, but not its host
// name.
func verifyChain(roots *x509.CertPool, state tls.ConnectionState) error {
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, cert := range state.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	_, err := state.PeerCertificates[0].Verify(opts)
	return err
}
