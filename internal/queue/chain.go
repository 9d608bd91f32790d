package queue

import (
	"context"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/pool"
)

// A call chain is the ctx that a lock's code runs under, and all that derives
// from it. Its innermost lock stands in the ctx and knows the one around it, so
// that a chain that forks is two chains with a common beginning.

type chainKey struct{}

// withGrant is a context that carries the innermost lock of its chain.
type withGrant struct {
	context.Context
	grant *Grant
}

func (c withGrant) Value(key any) any {
	if key == (chainKey{}) {
		return c.grant
	}
	return c.Context.Value(key)
}

// chain is the innermost lock of a call chain, nil for one that has none. Locks
// of other queues stand among its ancestors, and released ones too: a context
// can outlive the code it was made for.
type chain struct {
	queue *Queue
	inner *Grant
}

func (q *Queue) chainOf(ctx context.Context) chain {
	inner, _ := ctx.Value(chainKey{}).(*Grant)
	return chain{q, inner}
}

// locks yields what the chain still holds in its queue, the innermost first.
// The queue's mu must be held.
func (c chain) locks(yield func(*Grant) bool) {
	for g := c.inner; g != nil; g = g.outer {
		if g.queue == c.queue && !g.releasing && !yield(g) {
			return
		}
	}
}

func (c chain) empty() bool {
	for range c.locks {
		return false
	}
	return true
}

func (c chain) holds(g *Grant) bool {
	for held := range c.locks {
		if held == g {
			return true
		}
	}
	return false
}

func (c chain) holding(l *line) bool {
	return l.holder != nil && c.holds(l.holder)
}

// home is the session that is the chain's own, or else of its outermost lock.
func (c chain) home() (home *pool.Session) {
	for g := range c.locks {
		home = g.session
		if g.use.own() {
			break
		}
	}
	return home
}

// mayHaveOwn returns an error if the chain has a session of its own already: on that there is one transaction at a
// time. The queue's mu must be held.
func (c chain) mayHaveOwn() error {
	for g := range c.locks {
		switch g.use {
		case ForTx:
			return fault.Because(fault.ErrInTransaction, "already in a transaction, and a second START TRANSACTION would commit it; use the *sql.Tx passed to fn", nil)
		case ForTerm, ForLead:
			return fault.Because(fault.ErrInTransaction, "already in a term, which has a session of its own; use Term.WithTx for a transaction", nil)
		}
	}
	return nil
}

// on is how many locks the chain holds on s.
func (c chain) on(s *pool.Session) (n int) {
	for g := range c.locks {
		if g.session == s {
			n++
		}
	}
	return n
}

// deadlocksLocked reports whether c, were it to wait for the lock held by g, would wait
// for itself: some caller below g waits for a lock of c, or for one whose code
// waits for it in turn. The code of a lock is taken to wait for every call made
// under it. The queue's mu must be held.
func (q *Queue) deadlocksLocked(c chain, g *Grant) bool {
	seen := map[*Grant]bool{}
	var reaches func(*Grant) bool
	reaches = func(g *Grant) bool {
		if g == nil || seen[g] {
			return false
		}
		seen[g] = true
		for w := range q.nested {
			if w.chain.holds(g) && (c.holding(w.line) || reaches(w.line.holder)) {
				return true
			}
		}
		return false
	}
	return reaches(g)
}
