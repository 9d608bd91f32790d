package queue

import (
	"context"
	"slices"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/pool"
)

// A chain is a call chain: the ctx that a lock's code runs under, and every ctx
// that derives from it. The ctx carries the innermost lock, under its queue as
// key. Each lock refers to the chain around it, so a chain that forks is two
// chains with a common beginning. The locks of another Locker are another
// chain.
type chain struct{ inner *Grant }

// withGrant is a context that carries the innermost lock of its chain.
type withGrant struct {
	context.Context
	grant *Grant
}

func (c withGrant) Value(key any) any {
	if key == any(c.grant.line.queue) {
		return c.grant
	}
	return c.Context.Value(key)
}

// Chain returns the locks that the call chain of ctx holds, the innermost
// first.
func (q *Queue) Chain(ctx context.Context) []*Grant {
	chain := q.chainOf(ctx)
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Collect(chain.locks)
}

func (q *Queue) chainOf(ctx context.Context) chain {
	inner, _ := ctx.Value(q).(*Grant)
	return chain{inner}
}

// locks yields the locks that the chain holds, the innermost first. It skips
// those that have been released: a context can outlive the code that it was
// made for. The queue's mu must be held.
func (c chain) locks(yield func(*Grant) bool) {
	for g := c.inner; g != nil; g = g.chain.inner {
		if g.state < releasing && !yield(g) {
			return
		}
	}
}

func (c chain) empty() bool {
	g := c.inner
	for g != nil && g.state >= releasing {
		g = g.chain.inner
	}
	return g == nil
}

// holds reports whether the chain holds g. It does not hold nil.
func (c chain) holds(g *Grant) bool {
	for mine := range c.locks {
		if mine == g {
			return true
		}
	}
	return false
}

// home returns the session that belongs to the chain alone, or else the session
// of its outermost lock. It is nil for a chain without locks.
func (c chain) home() (home *pool.Session) {
	for g := range c.locks {
		home = g.session
		if g.OwnSession() {
			break
		}
	}
	return home
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

// mayHaveOwn returns an error if the chain has a session of its own already: a
// session has one transaction at a time. The queue's mu must be held.
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

// deadlocksLocked reports whether c would wait for itself if it waited for the
// lock of g. It would if a caller under g waits for a lock of c, or for a lock
// whose code waits for a lock of c in turn. The code of a lock is assumed to
// wait for every call that is made under the lock. The queue's mu must be held.
func (q *Queue) deadlocksLocked(c chain, g *Grant) bool {
	seen := map[*Grant]bool{}
	var reaches func(*Grant) bool
	reaches = func(g *Grant) bool {
		if g == nil || seen[g] {
			return false
		}
		seen[g] = true
		for w := range q.nested {
			if w.chain.holds(g) && (c.holds(w.line.holder) || reaches(w.line.holder)) {
				return true
			}
		}
		return false
	}
	return reaches(g)
}
