package pool

import (
	"database/sql"
	"runtime"
	"slices"
	"sync"
	"weak"
)

// A share counts the connections that all pools of one db take of it. One is
// always left to the code under the locks. A nil share is that of a pool
// without a db, which neither takes a connection nor wants one.
type share struct {
	mu      sync.Mutex // guards what follows; comes after any pool's mu
	taken   int        // connections that the pools have, or are about to have
	leaders int        // calls that have a session for as long as they last
	pools   []weak.Pointer[Pool]
	waiting []*Pool // those whose callers found no room since a connection was last given back, in order
}

// shares contains the share of each db. It keeps neither a db nor a pool that
// is never closed.
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

func (sh *share) join(p *Pool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.pools = append(slices.DeleteFunc(sh.pools, func(other weak.Pointer[Pool]) bool { return other.Value() == nil }), weak.Make(p))
}

// take takes one connection more, if the pools then have no more than limit (0:
// no limit). If it cannot, the next give wakes p, unless p is nil: a connection
// may be given back right after the caller has found no room.
func (sh *share) take(limit int, p *Pool) bool {
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

// give undoes take, and returns the pools that are to be woken. These are all
// that found no room: the callers of the first may have given up. No pool's mu
// may be held when they are woken.
func (sh *share) give() (woken []*Pool) {
	if sh == nil {
		return nil
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.taken--
	woken, sh.waiting = sh.waiting, nil
	return woken
}

// inTheWay returns the other pools, whose idle sessions are in the way, if p
// waits to be woken.
func (sh *share) inTheWay(p *Pool) (others []*Pool) {
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
func (sh *share) wanted(p *Pool) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return slices.ContainsFunc(sh.waiting, func(other *Pool) bool { return other != p })
}

// leave is the end of p.
func (sh *share) leave(p *Pool) {
	if sh == nil {
		return
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.waiting = slices.DeleteFunc(sh.waiting, func(other *Pool) bool { return other == p })
	sh.pools = slices.DeleteFunc(sh.pools, func(other weak.Pointer[Pool]) bool { return other.Value() == p })
}

// lead counts one leader more, if a db that allows so many connections (0: no
// limit) has two more than leaders then: see Pool.Lead. It returns how many
// leaders there are.
func (sh *share) lead(open int) (leaders int, ok bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if open > 0 && sh.leaders+1 > open-2 {
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
