package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/go-namedlock/namedlock/locktest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOnServers(t *testing.T) {
	for _, kind := range []servers.Kind{servers.MySQL, servers.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			server := servers.ForTest(t, kind)
			t.Run("three machines", func(t *testing.T) { testThreeMachines(t, server) })
			t.Run("daily", func(t *testing.T) { testDaily(t, server) })
		})
	}
}

func testThreeMachines(t *testing.T, server *servers.Server) {
	var stdout strings.Builder
	require.NoError(t, threeMachines(t.Context(), server.DSN(), "2026-11-22", &stdout))
	assert.Equal(t, "writing the report of 2026-11-22\n"+done+"\n"+already+"\n"+already+"\n", stdout.String())
}

func testDaily(t *testing.T, server *servers.Server) {
	db := server.Open(t)
	require.NoError(t, createRuns(t.Context(), db))
	require.NoError(t, createRuns(t.Context(), db), "again")
	locks := locktest.New()
	defer locks.Close()

	ran := 0
	job := func(fails error) (string, error) {
		return daily(t.Context(), db, locks, "report", "2026-11-22", func(ctx context.Context) error {
			locktest.AssertHeld(t, ctx, locks, "report")
			ran++
			return fails
		})
	}
	release := locks.HoldElsewhere("report")
	what, err := job(nil)
	require.NoError(t, err)
	assert.Equal(t, busy, what)
	assert.Zero(t, ran)
	release()

	failure := errors.New("the printer is on fire")
	_, err = job(failure)
	require.ErrorIs(t, err, failure)
	what, err = job(nil)
	require.NoError(t, err)
	assert.Equal(t, done, what, "what has failed is tried again")
	what, err = job(nil)
	require.NoError(t, err)
	assert.Equal(t, already, what)
	assert.Equal(t, 2, ran)
}
