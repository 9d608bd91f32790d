package main

import (
	"context"
	"database/sql"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
	for _, terminal := range []bool{false, true} {
		var stdout, stderr strings.Builder
		status := run(t.Context(), []string{"-for", "3s"}, &stdout, &stderr, terminal)
		out := stdout.String()
		require.Zero(t, status, "%s%s", out, &stderr)
		assert.Empty(t, stderr.String())

		assert.Positive(t, field(t, out, `(?m)^runs +(\d+)`))
		assert.Zero(t, field(t, out, `overlaps +(\d+)`))
		assert.Regexp(t, `killed +worker \d while it held the lock; worker \d had it \d+\.\d ms later`, out)
		assert.Contains(t, out, "✕")
		assert.Contains(t, out, "The server in memory")
		assert.Equal(t, terminal, strings.Contains(out, "\x1b["))
	}
}

func field(t *testing.T, out, pattern string) int {
	match := regexp.MustCompile(pattern).FindStringSubmatch(out)
	require.NotNil(t, match, "%s in %s", pattern, out)
	n, err := strconv.Atoi(match[1])
	require.NoError(t, err)
	return n
}

func TestRunInterrupted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	var stdout, stderr strings.Builder
	start := time.Now()
	status := run(ctx, []string{"-for", "1h"}, &stdout, &stderr, false)
	assert.Zero(t, status, "%s%s", &stdout, &stderr)
	assert.Less(t, time.Since(start), time.Minute)
	assert.Contains(t, stdout.String(), "runs ")
}

func TestRunRefuses(t *testing.T) {
	for _, args := range [][]string{{"-for", "0"}, {"-for", "-1h"}, {"argument"}, {"-flag"}} {
		var stdout, stderr strings.Builder
		assert.Equal(t, 2, run(t.Context(), args, &stdout, &stderr, false), "%s", args)
		assert.NotEmpty(t, stderr.String())
	}
	for _, dsn := range []string{"nonsense", "root@tcp(127.0.0.1:1)/"} {
		var stdout, stderr strings.Builder
		assert.Equal(t, 1, run(t.Context(), []string{"-dsn", dsn}, &stdout, &stderr, false), "%s", dsn)
		assert.NotEmpty(t, stderr.String())
	}
}

// TestWorkerEndsWithParent hangs up as a dying parent does.
func TestWorkerEndsWithParent(t *testing.T) {
	srv, err := useServer(t.Context(), "")
	require.NoError(t, err)
	for _, test := range []struct {
		name     string
		free     bool   // the lock
		last     string // what the worker says last
		answered bool
	}{
		{name: "before the wait", free: true, last: waits},
		{name: "in the wait", last: waits, answered: true},
		{name: "before the section", free: true, last: enters},
		{name: "in the section", free: true, last: enters, answered: true},
		{name: "after the section", free: true, last: leaves},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !test.free {
				hold(t, srv)
			}
			w, err := startWorker(srv.dsn)
			require.NoError(t, err)
			stuck := time.AfterFunc(time.Minute, func() { w.cmd.Process.Kill() })
			defer stuck.Stop()
			reports := make(chan report)
			go w.listen(0, reports)
			for {
				r := <-reports
				if r.end {
					assert.NoError(t, r.err, "%s", &w.stderr)
					return
				}
				if r.said != test.last || test.answered {
					io.WriteString(w.stdin, "\n")
				}
				if r.said == test.last {
					time.AfterFunc(100*time.Millisecond, func() { w.stdin.Close() })
				}
			}
		})
	}
}

func hold(t *testing.T, srv server) {
	db, err := sql.Open("mysql", srv.dsn)
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	var granted int
	require.NoError(t, db.QueryRow("SELECT GET_LOCK('"+lockName+"', 5)").Scan(&granted))
	require.Equal(t, 1, granted)
}

// TestWorkerFails shows that a worker's failure fails the run.
func TestWorkerFails(t *testing.T) {
	var out strings.Builder
	c := &contest{length: time.Second, board: newBoard(&out, false)}
	c.run(t.Context(), "root@tcp(127.0.0.1:1)/")
	assert.ErrorContains(t, c.verdict(false), "refused")
}
