package pool

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The error for a caller that had no session names the limit that kept it from
// one.
func TestNumbers_Remedy(t *testing.T) {
	const db, cap = "; raise SetMaxOpenConns", "; raise WithMaxSessions"
	for what, c := range map[string]struct {
		maxSessions, maxOpen int
		owned, others        int // sessions of chains, and connections of the application
		full                 bool
		want                 string
	}{
		"the cap":                        {maxSessions: 1, want: cap},
		"the cap of a db":                {maxSessions: 1, maxOpen: 20, want: cap},
		"the default cap of a db":        {maxOpen: 20, want: cap},
		"the db's share for the cap":     {maxSessions: 10, maxOpen: 4, want: db},
		"the db, by Lockers":             {maxSessions: 1, maxOpen: 4, owned: 3, want: db},
		"the db, by the application":     {maxSessions: 1, maxOpen: 4, others: 4, want: db},
		"the server":                     {maxSessions: 4, maxOpen: 20, full: true, want: "max_connections"},
		"the server, of an unlimited db": {maxSessions: 4, full: true, want: "max_connections"},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(conf *Config) { conf.MaxSessions = c.maxSessions }, func(b *bubble) {
				b.db.SetMaxOpenConns(c.maxOpen)
				var sessions []*Session
				for range c.owned {
					sessions = append(sessions, b.take(Request{Own: true}))
				}
				if c.owned+c.others == 0 {
					sessions = append(sessions, b.take(Request{}))
				}
				var others []*sql.Conn
				for range c.others {
					conn, err := b.db.Conn(b.Context())
					require.NoError(b, err)
					others = append(others, conn)
				}
				if c.full {
					require.True(b, b.pool.sharesNow())
				}
				assert.Contains(b, b.pool.Numbers(), c.want)
				for _, s := range sessions {
					b.pool.Put(s)
				}
				for _, conn := range others {
					require.NoError(b, conn.Close())
				}
			})
		})
	}
}
