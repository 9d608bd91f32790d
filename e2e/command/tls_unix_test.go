//go:build unix

package command

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/e2e/servers"
)

// The TLS options of an option file, on a server that made its certificates
// when it was set up. They are for no host.
func TestOptionFile_TLS(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		_, err := b.db.Exec("CREATE USER tls IDENTIFIED BY 'secret'")
		defer b.db.Exec("DROP USER tls")
		require.NoError(t, err)
		host, port, _ := strings.Cut(b.server.Addr(), ":")
		file := filepath.Join(t.TempDir(), "my.cnf")
		run := func(keys string) *process {
			text := fmt.Sprintf("[client]\nhost=%s\nport=%s\nuser=tls\npassword=secret\n%s\n", host, port, keys)
			require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
			return b.start("run", "-defaults-file", file, "x", "--", "sh", "-c", `echo "$NAMEDLOCK_CONNECTION_ID"; read x; exec sleep 1000`)
		}
		cipher := func(keys string) (cipher string) {
			t.Helper()
			p := run(keys)
			id := p.pids(1)[0]
			require.NoError(t, b.db.QueryRow(`SELECT variable_value FROM performance_schema.status_by_thread
				JOIN performance_schema.threads USING (thread_id) WHERE processlist_id = ? AND variable_name = 'Ssl_cipher'`, id).Scan(&cipher))
			require.NoError(t, p.Process.Kill())
			b.free("x")
			return cipher
		}
		refused := func(keys, says string) {
			t.Helper()
			p := run(keys)
			assert.Equal(t, 69, p.code(), "%s: %s", keys, p.stderr.String())
			assert.Contains(t, p.stderr.String(), says, keys)
		}

		// MariaDB 10.11 has no TLS without certificates in its options.
		if b.server.Kind() == servers.MariaDB {
			run("").pids(1)
			refused("ssl-mode=REQUIRED", "TLS")
			return
		}
		var dir string
		require.NoError(t, b.db.QueryRow("SELECT @@datadir").Scan(&dir))
		ca := "ssl-ca=" + filepath.Join(dir, "ca.pem")
		pair := "\nssl-cert=" + filepath.Join(dir, "client-cert.pem") + "\nssl-key=" + filepath.Join(dir, "client-key.pem")
		other := filepath.Join(t.TempDir(), "other.pem")
		require.NoError(t, os.WriteFile(other, []byte(otherCA(t)), 0o600))

		assert.NotEmpty(t, cipher(""), "where the server can")
		assert.Empty(t, cipher("skip-ssl"))
		assert.Empty(t, cipher("ssl-mode=DISABLED"))
		assert.NotEmpty(t, cipher("ssl-mode=REQUIRED"))
		assert.NotEmpty(t, cipher(ca))
		assert.NotEmpty(t, cipher("ssl-mode=VERIFY_CA\n"+ca+pair))
		refused("ssl-ca="+other, "certificate signed by unknown authority")
		refused("ssl-mode=VERIFY_IDENTITY\n"+ca, "certificate")
		refused("ssl-verify-server-cert\n"+ca, "certificate")

		_, err = b.db.Exec("ALTER USER tls REQUIRE X509")
		require.NoError(t, err)
		assert.NotEmpty(t, cipher(ca+pair))
		p := run(ca)
		assert.Equal(t, 77, p.code(), p.stderr.String())
	})
}

// otherCA returns the certificate of an authority that has signed no other
// certificate.
func otherCA(t *testing.T) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
