package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock/internal/lateness"
)

// Proxies, named after their folders and configurations.
const (
	HAProxy       Kind = "haproxy"              // in TCP mode
	Router        Kind = "mysql-router"         // MySQL Router
	RouterSharing Kind = "mysql-router-sharing" // with connection sharing
	RouterPool    Kind = "mysql-router-pool"    // with a pool of connections to the server
)

// A Proxy is one proxy in front of one or more servers.
type Proxy struct {
	dir      *serverDir
	port     int
	instance instance
}

// A Backend is a server behind a proxy.
type Backend struct {
	Addr string
	// Check is the address of an HTTP server that reports whether the backend can
	// be used. If it is "", the backend is always used. Only HAProxy checks it.
	Check string
	// Keep leaves connections to a backend open after the check has failed.
	// Otherwise they are ended.
	Keep bool
}

// StartProxy runs a proxy that leads to the first usable backend. It returns
// when the proxy accepts connections.
func StartProxy(kind Kind, backends ...Backend) (*Proxy, error) {
	p := new(Proxy)
	var err error
	if p.dir, err = newDir(); err != nil {
		return nil, err
	}
	for range portAttempts {
		if p.port, err = FreePort(); err != nil {
			break
		}
		if err = p.start(kind, backends); err == nil {
			return p, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("start %s: %w%s", kind, err, indent(p.Log())), p.Stop())
}

func (p *Proxy) start(kind Kind, backends []Backend) error {
	var cmd *exec.Cmd
	var err error
	switch kind {
	case HAProxy:
		cmd, err = p.haproxy(backends)
	case Router, RouterSharing, RouterPool:
		cmd, err = p.router(kind, backends)
	default:
		err = errors.New("no such kind of proxy")
	}
	if err != nil {
		return err
	}
	log, err := os.OpenFile(p.dir.join("error.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir.path, log, log
	proc, err := startProcess(cmd, nil)
	if err = errors.Join(err, log.Close()); err != nil {
		return err
	}
	p.instance = proc
	ctx, cancel := lateness.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		conn, err := net.Dial("tcp", p.Addr())
		if err == nil {
			return conn.Close()
		}
		select {
		case <-proc.exited():
			return errors.New("the proxy ended while it was starting")
		case <-time.After(pollInterval):
		}
		if ctx.Err() != nil {
			return errors.Join(noAnswer(ctx, kind, err), proc.kill())
		}
	}
}

func (p *Proxy) haproxy(backends []Backend) (*exec.Cmd, error) {
	argv, _, err := unpacked(HAProxy, "haproxy")
	if err != nil {
		return nil, err
	}
	var config strings.Builder
	fmt.Fprintf(&config, "defaults\n  mode tcp\n  timeout connect 5s\n  timeout check 1s\n  timeout client 1h\n  timeout server 1h\n"+
		"listen servers\n  bind %s\n  option httpchk\n  default-server inter 100ms rise 1 fall 2\n", p.Addr())
	for i, b := range backends {
		fmt.Fprintf(&config, "  server s%d %s", i, b.Addr)
		if host, port, err := net.SplitHostPort(b.Check); err == nil {
			fmt.Fprintf(&config, " check addr %s port %s", host, port)
			if !b.Keep {
				config.WriteString(" on-marked-down shutdown-sessions")
			}
		}
		config.WriteString("\n")
	}
	file := p.dir.join("haproxy.cfg")
	return exec.Command(argv[0], append(argv[1:], "-db", "-f", file)...), os.WriteFile(file, []byte(config.String()), 0o600)
}

func (p *Proxy) router(kind Kind, backends []Backend) (*exec.Cmd, error) {
	argv, root, err := unpacked(Router, "mysqlrouter")
	if err != nil {
		return nil, err
	}
	addrs := make([]string, len(backends))
	for i, b := range backends {
		addrs[i] = b.Addr
	}
	var config strings.Builder
	fmt.Fprintf(&config, "[DEFAULT]\nplugin_folder=%s\nlogging_folder=\nruntime_folder=%s\ndata_folder=%s\n",
		firstMatch(root, "usr/lib/mysqlrouter/plugin", "usr/lib/*/mysqlrouter/plugin"), p.dir.join("tmp"), p.dir.join("tmp"))
	if os.Geteuid() == 0 {
		config.WriteString("user=root\n")
	}
	config.WriteString("[logger]\nlevel=WARNING\n")
	if kind != Router {
		config.WriteString("[connection_pool]\nmax_idle_server_connections=64\nidle_timeout=300\n")
	}
	fmt.Fprintf(&config, "[routing:servers]\nbind_address=127.0.0.1\nbind_port=%d\ndestinations=%s\nrouting_strategy=first-available\nprotocol=classic\nmax_connect_errors=4294967295\n",
		p.port, strings.Join(addrs, ","))
	if kind == RouterSharing {
		config.WriteString("connection_sharing=1\nclient_ssl_mode=DISABLED\nserver_ssl_mode=DISABLED\n")
	}
	file := p.dir.join("router.conf")
	return exec.Command(argv[0], append(argv[1:], "-c", file)...), os.WriteFile(file, []byte(config.String()), 0o600)
}

// Find returns a *MissingError if a proxy's program is not on the machine. A
// test that also needs servers calls Find before it starts them.
func Find(kind Kind) error {
	var err error
	switch kind {
	case HAProxy:
		_, _, err = unpacked(HAProxy, "haproxy")
	case Router, RouterSharing, RouterPool:
		_, _, err = unpacked(Router, "mysqlrouter")
	default:
		err = errors.New("no such kind of proxy")
	}
	return err
}

// unpacked returns the command of a program that fetch.sh has unpacked, and the
// folder that contains it.
func unpacked(kind Kind, name string) (argv []string, root string, err error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, "", err
	}
	root = filepath.Join(cache, string(kind))
	p := in(root, name)
	if p == nil {
		return nil, "", &MissingError{Kind: kind, Looked: []string{name + " in " + root}}
	}
	// It has a linker of its own. Libraries that only this program uses are in a
	// folder of their own.
	if len(p.argv) > 2 {
		p.argv[2] += ":" + filepath.Join(root, "usr/lib", string(kind))
	}
	return p.argv, root, nil
}

// Addr returns the proxy's address, 127.0.0.1 and a port.
func (p *Proxy) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }

// Log returns the output of the proxy.
func (p *Proxy) Log() string {
	b, _ := os.ReadFile(p.dir.join("error.log"))
	return string(b)
}

// Stop ends the proxy, and removes its folder.
func (p *Proxy) Stop() error {
	var err error
	if p.instance != nil {
		err = p.instance.kill()
	}
	return errors.Join(err, p.dir.remove())
}
