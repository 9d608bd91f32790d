package namedlock

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-namedlock/namedlock/internal/names"
	"github.com/go-namedlock/namedlock/internal/printable"
	"github.com/go-namedlock/namedlock/internal/queue"
	"github.com/go-namedlock/namedlock/internal/server"
)

// A Holder is a session that holds a lock, as far as the server shows the
// session to its user. A field that the server does not show is zero. The
// server shows sessions of other users only to a user with the privilege
// PROCESS: docs/OPERATIONS.md has the rules.
type Holder struct {
	Name         string // of the lock, without the namespace; from Holders as the server shows it
	ConnectionID uint64 // the argument for KILL; 0 in an Error if Local

	// Local reports that the holder is a caller of this Locker. In an Error,
	// only Name, Local and HeldFor are then set. [Locker.Holder] sets Local if
	// the name is spelled as the holder spelled it and no loss has been
	// noticed. [Locker.Holders] never sets it.
	//
	// HeldFor is how long this Locker has held the lock. No server reports that
	// for other sessions.
	Local   bool
	HeldFor time.Duration

	User string
	Host string // an address, or a name
	Port int    // on Host; 0 for a Unix socket

	// The connection attributes, by which a session's client describes itself.
	// MariaDB shows them only if its performance_schema is ON. go-sql-driver
	// sends the PID. The other two come from the DSN:
	// connectionAttributes=program_name:billing,client_host:web-1. Behind some
	// proxies these are the proxy's own attributes.
	Program    string // program_name
	PID        int    // _pid: the number of the process, on its own machine or in its container
	ClientHost string // client_host: the name of that machine, which Host is not behind NAT

	// The activity of the session, from the process list. Command is "Sleep"
	// between its statements, or "Query" ("Execute" for a prepared statement on
	// MariaDB). CommandTime is how long this has lasted, in whole seconds. It
	// is not the age of the lock, which no server shows. A session of a Locker
	// sleeps for at most a keep-alive interval, however long it has held the
	// lock.
	Command     string
	CommandTime time.Duration
	Statement   string // that is running
}

// String returns the fields that are known, as in the text of an Error:
// "connection 42, app@10.0.0.7 (billing, pid 812 on web-1), last statement 4s
// ago". Sessions choose some of this text, so characters that are not printable
// are escaped as in a Go string literal. The fields have them unchanged.
func (h Holder) String() string {
	if h.Local && h.ConnectionID == 0 {
		return fmt.Sprintf("this process for %v", h.HeldFor.Truncate(time.Millisecond))
	}
	text := fmt.Sprintf("connection %d", h.ConnectionID)
	if h.Local {
		text += fmt.Sprintf(" of this process for %v", h.HeldFor.Truncate(time.Millisecond))
	}
	if h.User != "" {
		text += ", " + h.User
		if h.Host != "" {
			text += "@" + h.Host
		}
	}
	if client := h.client(); client != "" {
		text += " (" + client + ")"
	}
	switch {
	case h.CommandTime == 0:
	case h.Command == "Sleep":
		text += fmt.Sprintf(", last statement %v ago", h.CommandTime)
	default:
		text += fmt.Sprintf(", in a statement for %v", h.CommandTime)
	}
	return printable.Text(text)
}

// client returns the client's description of itself.
func (h Holder) client() string {
	var parts []string
	if h.Program != "" {
		parts = append(parts, h.Program)
	}
	switch {
	case h.PID != 0 && h.ClientHost != "":
		parts = append(parts, fmt.Sprintf("pid %d on %s", h.PID, h.ClientHost))
	case h.PID != 0:
		parts = append(parts, fmt.Sprintf("pid %d", h.PID))
	case h.ClientHost != "":
		parts = append(parts, "on "+h.ClientHost)
	}
	return strings.Join(parts, ", ")
}

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
