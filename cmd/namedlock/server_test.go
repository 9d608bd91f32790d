//go:build unix

package main

import (
	"encoding/json"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What an option file and the environment say of the server, as a DSN, or the
// error.
func TestServerFlags(t *testing.T) {
	saved := sockets
	defer func() { sockets = saved }()
	sockets = []string{"/nowhere/at.sock"}
	dir := t.TempDir()
	socket := filepath.Join(dir, "here.sock")
	require.NoError(t, os.WriteFile(socket, nil, 0o600))

	for _, c := range []struct{ keys, dsn, err string }{
		{"", "u@tcp(127.0.0.1:3306)/", ""},
		{"host=db", "u@tcp(db:3306)/", ""},
		{"host=db\nport=3307\nuser=app\npassword=s3@:/", "app:s3@:/@tcp(db:3307)/", ""},
		{"host=::1", "u@tcp([::1]:3306)/", ""},
		{"host=localhost", "u@tcp(localhost:3306)/", ""}, // there is no socket
		{"socket=/tmp/x.sock", "u@unix(/tmp/x.sock)/", ""},
		{"host=localhost\nsocket=/tmp/x.sock", "u@unix(/tmp/x.sock)/", ""},
		{"host=db\nsocket=/tmp/x.sock", "u@tcp(db:3306)/", ""}, // as the clients have it
		{"host=localhost\nsocket=/tmp/x.sock\nprotocol=TCP", "u@tcp(localhost:3306)/", ""},
		{"host=db\nsocket=/tmp/x.sock\nprotocol=socket", "u@unix(/tmp/x.sock)/", ""},
		{"protocol=socket", "", "no socket is set"},
		{"protocol=pipe", "", `line 3: protocol is tcp or socket, not "pipe"`},
		{"port=0", "", "line 3: port is a number from 1 to 65535"},
		{"host=db\nport=x", "", "line 4: port is a number"},
		{"connect-timeout=7", "u@tcp(127.0.0.1:3306)/?timeout=7s", ""},
		{"connect_timeout=-1", "", "a number of seconds"},
		{"password", "", "line 3: password has no value"},
		{"passwort=x", "", `unknown key "passwort"`},
		{"loose-anything=x\nno-beep\nskip-auto-rehash\nskip-reconnect\nverbose\ndefault_character_set=latin1", "u@tcp(127.0.0.1:3306)/", ""},
		{"ssl-mode=MAYBE", "", `line 3: ssl-mode is DISABLED`},
		{"ssl-ca=/nowhere", "", "ssl-ca cannot be read"},
		{"ssl-ca=" + socket, "", "has no certificate in PEM"},
		{"ssl-cert=/nowhere", "", "ssl-cert and ssl-key"},
	} {
		file := filepath.Join(dir, "my.cnf")
		require.NoError(t, os.WriteFile(file, []byte("[client]\nuser=u\n"+c.keys+"\n"), 0o600))
		config, err := serverFlags{defaultsFile: file}.config()
		if c.err != "" {
			assert.ErrorContains(t, err, c.err, c.keys)
			continue
		}
		require.NoError(t, err, c.keys)
		config.TLS, config.TLSConfig, config.AllowFallbackToPlaintext = nil, "", false
		assert.Equal(t, c.dsn, config.FormatDSN(), c.keys)
	}

	file := filepath.Join(dir, "my.cnf")
	for _, text := range []string{"", "[client]\n", "[clinet]\nhost=db\n"} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		_, err := serverFlags{defaultsFile: file}.config()
		assert.ErrorContains(t, err, "has no settings in [client]", text)
	}
	require.NoError(t, os.WriteFile(file, []byte("[client-server]\nhost=db\n"), 0o600))
	config, err := serverFlags{defaultsFile: file}.config()
	require.NoError(t, err)
	login, err := user.Current()
	require.NoError(t, err)
	assert.Equal(t, login.Username, config.User, "as the clients have it")

	sockets = []string{"/nowhere/at.sock", socket}
	file = filepath.Join(dir, ".my.cnf")
	require.NoError(t, os.WriteFile(file, []byte("[client]\nuser=root\n"), 0o600))
	t.Setenv("HOME", dir)
	t.Setenv("NAMEDLOCK_DSN", "")
	config, err = serverFlags{}.config()
	require.NoError(t, err)
	assert.Equal(t, "root@unix("+socket+")/", config.FormatDSN())

	t.Setenv("NAMEDLOCK_DSN", "app@tcp(env:1)/")
	config, err = serverFlags{}.config()
	require.NoError(t, err)
	assert.Equal(t, "env:1", config.Addr)
	config, err = serverFlags{dsn: "app@tcp(flag:1)/"}.config()
	require.NoError(t, err)
	assert.Equal(t, "flag:1", config.Addr)
	_, err = serverFlags{dsn: "x", defaultsFile: "y"}.config()
	assert.ErrorContains(t, err, "give only one of them")
	_, err = serverFlags{dsn: "root:secret"}.config()
	assert.ErrorContains(t, err, "-dsn is not a valid DSN")
	assert.NotContains(t, err.Error(), "secret")
	t.Setenv("NAMEDLOCK_DSN", "")
	require.NoError(t, os.Remove(file))
	_, err = serverFlags{}.config()
	assert.ErrorContains(t, err, "no server configured")
}

// No part of a DSN that is wrong is shown: a password may be in each.
func TestParseDSN(t *testing.T) {
	for dsn, why := range map[string]string{
		"app:s3c/TAIL%zz@tcp(h:3306)":             "put the host in tcp(…)",
		"app:s3cTAIL@tcp(h:3306)/%zzTAIL":         "the part after the last / is not valid",
		"app:s3cTAIL tcp(h:3306)/":                "put the host in tcp(…)", // would be a network of that name
		"app:s3c@TAIL(h:3306)/":                   "put the host in tcp(…)",
		"app:s3c@tcp(h:3306)TAIL/":                "did you forget to escape a param value?",
		"app:s3cTAIL@tcp(h:3306/":                 "network address not terminated",
		"app:s3cTAIL@tcp(h:3306)":                 "missing the slash",
		"app:s3cTAIL@tcp(h:3306)/?timeout=5TAIL":  "the value of timeout is not valid",
		"app:s3cTAIL@tcp(h:3306)/?tls=TAIL":       "the value of tls is not valid",
		"app:s3cTAIL@tcp(h:3306)/?x=%zzTAIL":      "the part after the last / is not valid",
		"app:s3cTAIL@tcp(h:3306)/?parseTime=TAIL": "the value of parseTime is not valid",
		"app:s/3c?TAIL=%zz@tcp(h:3306)":           "put the host in tcp(…)",
	} {
		_, err := parseDSN("-dsn", dsn)
		if assert.ErrorContains(t, err, "-dsn is not a valid DSN (want user:password@tcp(host:3306)/): "+why, dsn) {
			assert.NotContains(t, err.Error(), "TAIL", dsn)
			assert.NotContains(t, err.Error(), "s3c", dsn)
			assert.NotContains(t, err.Error(), "%zz", dsn)
		}
	}
	for _, dsn := range []string{"app:a/b@tcp(h:3306)/", "app:a/b@unix(/run/my.sock)/db?timeout=5s", "tcp6([::1]:3306)/", "/", "app@/"} {
		_, err := parseDSN("-dsn", dsn)
		assert.NoError(t, err, dsn)
	}
}

func TestClean(t *testing.T) {
	for text, want := range map[string]string{
		"plain \"é\" \\ 漢字":          "plain \"é\" \\ 漢字",
		"\x1b[31m\r\n\t\x00":         `\x1b[31m\r\n\t\x00`,
		"\u009b31m\u202e\u2028":      `\u009b31m\u202e\u2028`,
		"\xff\xc3":                   `\xff\xc3`,
		"\ufffd\U0001f512\U000e0001": "\ufffd\U0001f512" + `\U000e0001`,
	} {
		assert.Equal(t, want, clean(text), "%q", text)
	}
	var out strings.Builder
	require.NoError(t, printJSON(&out, map[string]string{"a": "\x1b \u009b \u202e \U000e0001 <é>"}))
	assert.Equal(t, "{\n  \"a\": \"\\u001b \\u009b \\u202e \\udb40\\udc01 <é>\"\n}\n", out.String())
	var back map[string]string
	require.NoError(t, json.Unmarshal([]byte(out.String()), &back))
	assert.Equal(t, "\x1b \u009b \u202e \U000e0001 <é>", back["a"])
}
