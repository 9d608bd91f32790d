package recipes

import (
	"context"
	"database/sql"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-namedlock/namedlock"
)

// Leadership answers, for code that Lead does not run, whether this process
// leads. The zero value is ready to use, for one call of Lead at a time.
type Leadership struct{ now atomic.Pointer[leading] }

type leading struct {
	ctx  context.Context // ends with the term
	term *namedlock.Term
}

// Lead is locks.Lead. While fn runs, Term returns its term.
func (l *Leadership) Lead(ctx context.Context, locks namedlock.LeadInterface, name string, fn func(ctx context.Context, term *namedlock.Term) error) error {
	return locks.Lead(ctx, name, func(ctx context.Context, term *namedlock.Term) error {
		l.now.Store(&leading{ctx, term})
		defer l.now.Store(nil)
		return fn(ctx, term)
	})
}

// Term returns the term in which this process leads, and its ctx, which ends
// when the term is over or lost. ok is false if this process does not lead.
//
// The answer is from a moment ago: after it the process may be deposed. So
// write by term.WithTx, which does not commit then, and do everything else
// under ctx.
func (l *Leadership) Term() (ctx context.Context, term *namedlock.Term, ok bool) {
	now := l.now.Load()
	if now == nil || now.ctx.Err() != nil {
		return nil, nil, false
	}
	return now.ctx, now.term, true
}

// Started calls Check until it succeeds or ctx ends. Call it once, at the start
// of the service, before the readiness probe succeeds. It returns ctx.Err(),
// and report gets each error of Check.
func Started(ctx context.Context, locks interface{ Check(context.Context) error }, pause time.Duration, report func(error)) error {
	for {
		err := locks.Check(ctx)
		if err == nil {
			return nil
		}
		report(err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Ready is the readiness probe of a service that uses db: it pings db, which
// must not be the db of the locks. It does not ask about locks. If it did, all
// replicas would be taken out of service while the server with the locks fails
// over, though waits go on, and requests without locks could be served.
func Ready(started *atomic.Bool, db *sql.DB) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		if !started.Load() || db.PingContext(ctx) != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
}
