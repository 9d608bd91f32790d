package main

import (
	"os"
	"strings"
	"testing"

	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/stretchr/testify/assert"
)

// TestMain lets the tests' binary be a worker, since the program starts itself.
func TestMain(m *testing.M) {
	if _, worker := os.LookupEnv(workerDSN); worker {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestRun(t *testing.T) {
	for _, kind := range []servers.Kind{servers.MySQL, servers.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			server := servers.ForTest(t, kind)
			var out strings.Builder
			err := run(t.Context(), server.DSN(), &out)
			assert.NoError(t, err, &out)
			for _, want := range []string{"is killed", "leads", "no process wrote after its term"} {
				assert.Contains(t, out.String(), want)
			}
			if canStop {
				assert.Contains(t, out.String(), "continues, and has not noticed the loss yet")
				assert.Contains(t, out.String(), "no longer leads; its last transaction: not committed")
			}
		})
	}
}
