package namedlock

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-namedlock/namedlock/internal/names"
	"github.com/go-namedlock/namedlock/internal/queue"
	"github.com/go-namedlock/namedlock/internal/server"
)

// Holder asks the server which session holds the lock. false means that the
// lock is free. Holder acquires nothing, and waits for no lock. On MySQL it
// finds a name in any letter case.
//
// With [Open] it borrows a connection from the db, in addition to those of the
// locks. With [New] it waits for its turn on the given connection. It is
// limited by ctx and by 5 s.
//
// The error matches [ErrUnavailable] if the server is unavailable,
// [ErrUnsupported] if the server does not report holders, and [ErrNoSession] if
// all connections of the db are in use. It can also match [ErrInvalidName],
// [ErrClosed] or ctx.Err().
//
// The answer may be out of date: the lock may have been released, and acquired
// by another session, since.
func (l *Locker) Holder(ctx context.Context, name string) (Holder, bool, error) {
	if l.isZero() {
		return Holder{}, false, inspectError(name, errZeroLocker)
	}
	full := l.namespace + name
	if err := names.Check(full); err != nil {
		return Holder{}, false, inspectError(name, err)
	}
	if ctx == nil {
		return Holder{}, false, inspectError(name, errNoContext)
	}
	var found server.Holder
	var held bool
	mine := l.queue.Local(full)
	err := l.queue.Inspect(ctx, func(s *server.Conn) (err error) {
		found, held, err = s.Holder(full)
		return err
	})
	switch {
	case err != nil:
		return Holder{}, false, inspectError(name, err)
	case !held:
		return Holder{}, false, nil
	}
	h := l.holder(found)
	if mine != nil && mine == l.queue.Local(full) { // all the while
		h.Local, h.HeldFor = true, mine.HeldFor()
	}
	return h, true, nil
}

// Holders asks the server for the holders of all locks whose names begin with
// the Locker's namespace and prefix. In prefix, the characters %, _ and \ have
// no special meaning. An empty prefix matches all names. The holders are in the
// order of the names. MySQL shows names in lower case, and matches them in any
// case. Holders is limited as [Locker.Holder] is.
//
// A server that does not list its locks, or not for this user, is
// [ErrUnsupported], never an empty list. MySQL needs its performance schema and
// the privilege to SELECT there. MariaDB needs the plugin metadata_lock_info
// (INSTALL SONAME 'metadata_lock_info').
func (l *Locker) Holders(ctx context.Context, prefix string) ([]Holder, error) {
	if l.isZero() {
		return nil, inspectError(prefix, errZeroLocker)
	}
	full := l.namespace + prefix
	if full != "" {
		if err := names.Check(full); err != nil {
			return nil, inspectError(prefix, err)
		}
	}
	if ctx == nil {
		return nil, inspectError(prefix, errNoContext)
	}
	var found []server.Holder
	err := l.queue.Inspect(ctx, func(s *server.Conn) (err error) {
		found, err = s.Holders(full)
		return err
	})
	if err != nil {
		return nil, inspectError(prefix, err)
	}
	held := make([]Holder, len(found))
	for i, h := range found {
		held[i] = l.holder(h)
	}
	slices.SortStableFunc(held, func(a, b Holder) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(held, func(a, b Holder) bool { // a client may send an attribute twice
		return a.Name == b.Name && a.ConnectionID == b.ConnectionID
	}), nil
}

// inTheWay is the holder when the call timed out, nil if it is not known.
func (l *Locker) inTheWay(late *queue.Late) *Holder {
	if late.Holder == nil {
		return nil
	}
	h := l.holder(*late.Holder)
	return &h
}

// holder removes the namespace from the name. A server that folds a name turns
// no character into two.
func (l *Locker) holder(h server.Holder) Holder {
	for range utf8.RuneCountInString(l.namespace) {
		_, size := utf8.DecodeRuneInString(h.Name)
		h.Name = h.Name[size:]
	}
	return Holder(h)
}

func inspectError(name string, err error) error {
	return &Error{Op: OpInspect, Name: name, Err: err}
}
