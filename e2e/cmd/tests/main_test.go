package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// go test does not say what a package that passes has skipped; this command does, at the end.
func TestAMissingServerIsNamed(t *testing.T) {
	t.Setenv("NAMEDLOCK_DSN", "")
	t.Setenv("NAMEDLOCK_MYSQL_ROOT", t.TempDir())
	t.Setenv("NAMEDLOCK_REQUIRE_SERVERS", "")
	var out strings.Builder
	passed, err := run(&out, []string{"-run=^TestPromise01_"}, "github.com/go-namedlock/namedlock/e2e")
	require.NoError(t, err)
	assert.True(t, passed, "what is skipped has not failed")
	assert.Contains(t, out.String(), "SKIPPED: mysql ")
	assert.Equal(t, strings.Count(out.String(), "\n"), strings.Count(out.String(), "SKIPPED: "), "once each, one line each")
}
