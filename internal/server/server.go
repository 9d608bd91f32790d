package server

import (
	"database/sql/driver"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/go-namedlock/namedlock/internal/hangup"
)

// Config is the configuration of the connections for locks.
type Config struct {
	ReleaseTimeout time.Duration // bounds RELEASE_LOCK
	KeepAlive      time.Duration // between two proofs, at most
	Probe          time.Duration // between two looks at a socket; 0: none
	Lease          time.Duration // 0: none
	CheckServer    bool          // whether the server's locks exclude
	Logger         *slog.Logger  // never blocks: see notify.Notifier.Logger

	// Unwrap is the user's function. It returns the connection beneath a
	// wrapper, or nil. A nil Unwrap is never called.
	Unwrap func(driver.Conn) driver.Conn
}

// A Server is the database server of a pool: the configuration of all
// connections to it, and the facts that one connection finds out for all.
type Server struct {
	Config
	Hangups *hangup.Listener // reports the sockets that the server closes

	brief     bool         // connections may be short-lived: do not prepare at their first use
	noCluster atomic.Int64 // when it was last found outside clusters, in ns since epoch; 0: never
	noInnoDB  atomic.Bool  // it does not have @@innodb_read_only

	// Warnings that have been logged, once for all connections.
	warnedLease     atomic.Bool // a proxy drops the lease
	warnedUnwatched atomic.Bool // losses will be noticed late
}

// New returns a server that has no connection yet. brief says that connections
// may be short-lived.
func New(config Config, brief bool) *Server {
	return &Server{Config: config, Hangups: hangup.New(), brief: brief}
}
