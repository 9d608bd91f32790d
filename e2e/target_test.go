package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock/e2e/internal/targets"
	"github.com/go-namedlock/namedlock/e2e/servers"
)

// on returns the target of this run.
var on = sync.OnceValue(func() targets.Target {
	t, err := targets.On()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return t
})

// startFor is start for one test.
func startFor(t *testing.T, kind servers.Kind, args ...string) *server {
	t.Helper()
	s, err := start(kind, args...)
	if err != nil {
		servers.SkipOrFail(t, err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of %s:\n%s", s.Version(), s.Log())
		}
		if err := s.Stop(); err != nil {
			t.Errorf("stop %s: %v", s.Version(), err)
		}
	})
	return s
}

// showLocks has options for MariaDB. With them it lists the holders and waiters
// of locks, as MySQL does by default.
var showLocks = []string{"--performance-schema=ON", "--performance-schema-instrument=wait/lock/metadata/sql/mdl=ON"}

// start starts a server of the target, and the proxy in front of it.
func start(kind servers.Kind, args ...string) (*server, error) {
	if kind == servers.MariaDB {
		args = append(args, showLocks...)
	}
	backend, err := servers.Start(kind, servers.WithArgs(args...), servers.WithVersion(on().Version))
	if err != nil {
		return nil, err
	}
	return asTarget(backend)
}

// startPlainMariaDB starts a MariaDB without the options of start, but with a
// certificate, which MySQL makes itself. It cannot be restarted, since the
// certificate's file is removed.
func startPlainMariaDB() (*server, error) {
	folder, err := os.MkdirTemp("", "namedlock-certificate-")
	if err != nil {
		return nil, err
	}
	cert, key, err := certificate(folder)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	backend, err := servers.Start(servers.MariaDB, servers.WithVersion(on().Version), servers.WithArgs("--ssl-cert="+cert, "--ssl-key="+key))
	if err := errors.Join(err, os.RemoveAll(folder)); err != nil {
		return nil, err
	}
	return asTarget(backend)
}

// certificate writes a self-signed certificate and its key.
func certificate(folder string) (cert, key string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "namedlock test"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return "", "", err
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	cert, key = filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	return cert, key, errors.Join(
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privateDER}), 0o600))
}

// asTarget returns a server of the target, with the proxy in front of it.
func asTarget(backend *servers.Server) (*server, error) {
	s, err := direct(backend)
	if err == nil && on().Proxy != "" {
		if s.proxy, err = servers.StartProxy(on().Proxy, servers.Backend{Addr: backend.Addr()}); err != nil {
			return nil, errors.Join(err, s.Stop())
		}
	}
	return s, err
}

// direct returns a server without a proxy.
func direct(backend *servers.Server) (*server, error) {
	admin, err := openDB(backend.DSN())
	if err != nil {
		return nil, errors.Join(err, backend.Stop())
	}
	// A session ends when it is closed, together with its locks.
	admin.SetMaxIdleConns(-1)
	return &server{Server: backend, admin: admin}, nil
}

// Addr returns the address that Lockers use: that of the proxy, if there is
// one.
func (s *server) Addr() string {
	if s.proxy != nil {
		return s.proxy.Addr()
	}
	return s.Server.Addr()
}

// DSN returns the DSN of the server at Addr.
func (s *server) DSN(params ...string) string { return s.DSNAt(s.Addr(), params...) }

// Restart returns when the server can be reached, also through the proxy. For a
// while MySQL Router avoids a server that it could not reach.
func (s *server) Restart() error {
	if err := s.Server.Restart(); err != nil || s.proxy == nil {
		return err
	}
	db, err := openDB(s.DSN())
	if err != nil {
		return err
	}
	defer db.Close()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if err = db.PingContext(background); err == nil || time.Now().After(end) {
			return err
		}
	}
}

// Stop ends the server, and the proxy in front of it.
func (s *server) Stop() error {
	var err error
	if s.admin != nil {
		err = s.admin.Close()
	}
	if s.proxy != nil {
		err = errors.Join(err, s.proxy.Stop())
	}
	return errors.Join(err, s.Server.Stop())
}
