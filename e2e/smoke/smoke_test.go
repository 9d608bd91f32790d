// Package smoke sees that what a demonstration does works on the embedded server. It is no part of the
// suite in package e2e: that server keeps few promises. And it takes long to load, which that suite's
// worker processes must not.
package smoke

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/servers"
	_ "github.com/go-namedlock/namedlock/e2e/servers/embedded"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEmbeddedServer(t *testing.T) {
	srv := servers.ForTest(t, servers.Embedded)
	ways := map[string]func(db *sql.DB) (*namedlock.Locker, error){
		"Open": func(db *sql.DB) (*namedlock.Locker, error) { return namedlock.Open(db) },
		"New": func(db *sql.DB) (*namedlock.Locker, error) {
			conn, err := db.Conn(t.Context())
			if err != nil {
				return nil, err
			}
			t.Cleanup(func() { conn.Close() })
			return namedlock.New(conn)
		},
	}
	for way, locker := range ways {
		t.Run(way, func(t *testing.T) {
			open := func() *namedlock.Locker {
				l, err := locker(srv.Open(t, "interpolateParams=true"))
				require.NoError(t, err)
				t.Cleanup(func() { l.Close() })
				return l
			}
			mine, other := open(), open()
			ran := 0
			for range 3 {
				require.NoError(t, mine.WithLock(t.Context(), way, time.Second, func(ctx context.Context) error {
					ran++
					require.NoError(t, ctx.Err())
					require.ErrorIs(t, other.WithLock(t.Context(), way, 0, func(context.Context) error {
						t.Error("two at once")
						return nil
					}), namedlock.ErrTimeout)
					return nil
				}))
			}
			assert.Equal(t, 3, ran)

			lock, err := mine.Acquire(t.Context(), way, 0)
			require.NoError(t, err)
			waiter := make(chan error, 1)
			go func() {
				waiter <- other.WithLock(t.Context(), way, time.Minute, func(context.Context) error { return nil })
			}()
			require.NoError(t, lock.Release())
			require.NoError(t, <-waiter)
		})
	}
}
