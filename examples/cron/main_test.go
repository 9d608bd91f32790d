package main

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/go-namedlock/namedlock/examples/internal/embedded"
	"github.com/go-namedlock/namedlock/locktest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var stdout strings.Builder
	require.NoError(t, run(t.Context(), "", "2026-11-22", &stdout))
	assert.Equal(t, "writing the report of 2026-11-22\n"+done+"\n"+already+"\n"+already+"\n", stdout.String())
}

func TestDaily(t *testing.T) {
	addr, err := embedded.Start()
	require.NoError(t, err)
	db, err := sql.Open("mysql", "root@tcp("+addr+")/"+embedded.Database)
	require.NoError(t, err)
	defer db.Close()
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
