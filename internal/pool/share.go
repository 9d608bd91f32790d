package pool

import (
	"database/sql"
	"runtime"
	"slices"
	"sync"
	"weak"
)

// A share is what all pools of one db have together: the connections that they may
// take of it. One is always left to the code under the locks.
type share struct {
	mu      sync.Mutex // guards what follows; comes after any pool's mu
	taken   int        // connections that the pools have, or are about to have
	leaders int        // calls that have a session for as long as they last
	pools   []weak.Pointer[pooled]
	waiting []*pooled // pools whose callers found no room since a connection was last given back, in order
}

// shares has the share of each db. Neither a pool that is never closed nor its db is
// kept by it.
var shares struct {
	mu sync.Mutex
	of map[weak.Pointer[sql.DB]]weak.Pointer[share]
}

// shareOf returns the share of db.
func shareOf(db *sql.DB) *share {
	shares.mu.Lock()
	defer shares.mu.Unlock()
	key := weak.Make(db)
	if sh := shares.of[key].Value(); sh != nil {
		return sh
	}
	sh := new(share)
	if shares.of == nil {
		shares.of = make(map[weak.Pointer[sql.DB]]weak.Pointer[share])
	}
	shares.of[key] = weak.Make(sh)
	runtime.AddCleanup(sh, func(key weak.Pointer[sql.DB]) {
		shares.mu.Lock()
		defer shares.mu.Unlock()
		if shares.of[key].Value() == nil {
			delete(shares.of, key)
		}
	}, key)
	return sh
}

func (sh *share) join(p *pooled) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.pools = append(slices.DeleteFunc(sh.pools, func(other weak.Pointer[pooled]) bool { return other.Value() == nil }), weak.Make(p))
}

// take takes one connection more, if the pools then have no more than limit; 0: there is
// none. If it cannot, p, unless it is nil, is woken by the next give: what is given back after
// the caller has seen that there is no room must not go unnoticed.
func (sh *share) take(limit int, p *pooled) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if limit > 0 && sh.taken >= limit {
		if p != nil && !slices.Contains(sh.waiting, p) {
			sh.waiting = append(sh.waiting, p)
		}
		return false
	}
	sh.taken++
	return true
}

// give undoes take, and returns the pools that are to be woken: all that found no room, since
// the callers of the first may have given up, or have no use for it. No pool's mu may be held
// when they are.
func (sh *share) give() (woken []*pooled) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.taken--
	woken, sh.waiting = sh.waiting, nil
	return woken
}

// inTheWay returns the other pools, whose idle sessions are in the way, if p waits to be woken.
func (sh *share) inTheWay(p *pooled) (others []*pooled) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if !slices.Contains(sh.waiting, p) {
		return nil
	}
	for _, other := range sh.pools {
		if other := other.Value(); other != nil && other != p {
			others = append(others, other)
		}
	}
	return others
}

// wanted reports whether another pool than p waits for a connection.
func (sh *share) wanted(p *pooled) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return slices.ContainsFunc(sh.waiting, func(other *pooled) bool { return other != p })
}

// leave is the end of p.
func (sh *share) leave(p *pooled) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.waiting = slices.DeleteFunc(sh.waiting, func(other *pooled) bool { return other == p })
	sh.pools = slices.DeleteFunc(sh.pools, func(other weak.Pointer[pooled]) bool { return other.Value() == p })
}

// lead counts one leader more, unless there would be more than most; 0: there is no such
// limit. It returns how many there are.
func (sh *share) lead(most int) (leaders int, ok bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if most > 0 && sh.leaders >= most {
		return sh.leaders, false
	}
	sh.leaders++
	return sh.leaders, true
}

func (sh *share) resign() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.leaders--
}

// state returns how many connections are taken, and how many leaders there are.
func (sh *share) state() (taken, leaders int) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.taken, sh.leaders
}
