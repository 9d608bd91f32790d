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
	"github.com/go-namedlock/namedlock/internal/session"
)

// A Holder is a session that holds a lock, as far as the server lets its user see. A
// field that it does not show is zero. Sessions of other users are shown to those with
// the privilege PROCESS.
type Holder struct {
	Name         string // the lock's, without the namespace; from Holders as the server shows it
	ConnectionID uint64 // what KILL takes; 0 in an Error if Local

	// Local: a caller of this Locker, in this process. An Error tells it without a
	// question, and then all else but HeldFor is zero. [Locker.Holder] tells it as far as
	// the Locker knows: of a name written as its caller wrote it, and until a loss is
	// noticed. Holders does not tell it. HeldFor is for how long this Locker has had the lock.
	// Of other sessions no server tells that.
	Local   bool
	HeldFor time.Duration

	User string
	Host string // an address, or a name
	Port int    // on Host; 0 for a Unix socket

	// What the session's client says of itself, in the connection attributes. MariaDB
	// shows them only if its performance_schema is ON. go-sql-driver sends the PID.
	// The other two come from the DSN:
	// connectionAttributes=program_name:billing,client_host:web-1. Behind some proxies
	// these are the proxy's own attributes.
	Program    string // program_name
	PID        int    // _pid: the number of the process, on its own machine or in its container
	ClientHost string // client_host: the name of that machine, which Host is not behind NAT

	// What the session does, by the process list: "Sleep" between its statements, or
	// "Query" ("Execute" for a prepared one on MariaDB). CommandTime is for how long, in
	// whole seconds. It is not the age of the lock, which no server shows: a Locker's
	// session sleeps for at most a keep-alive interval, however long it has the lock.
	Command     string
	CommandTime time.Duration
	Statement   string // that runs now
}

// String returns, as in the text of an Error, "connection 42, app@10.0.0.7 (billing,
// pid 812 on web-1), last statement 4s ago", or as much of it as is known. Sessions choose some of it: characters that
// are not printable are escaped as in a Go string literal. The fields have them as they came.
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

// client is what the session's client says of itself.
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

// Holder asks the server who holds the lock; false means that nobody does. It acquires
// nothing and waits for nobody's lock. On MySQL it finds a name in any letter case.
//
// With Open it borrows a connection from the db, beside those that locks are on; with
// New it takes its turn on the one there is. It is bounded by ctx and 5 s. A server that
// cannot be asked is [ErrUnavailable]; one that does not tell, [ErrUnsupported]; a db
// whose connections are all in use, [ErrNoSession].
//
// The answer is from a moment ago: the lock may have gone to another since.
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
	var found session.Holder
	var held bool
	mine := l.queue.Local(full)
	err := l.queue.Inspect(ctx, func(s *session.Session) (err error) {
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

// Holders asks the server for the holders of all locks whose names begin with prefix,
// behind the Locker's namespace; in it, % and _ and \ are characters like any other. An
// empty prefix asks for all. The holders come in the order of the names, which MySQL
// shows in lower case, and finds in any. Holders is bounded as Holder is.
//
// Not every server lists its locks, nor to every user. Those are [ErrUnsupported], never
// an empty answer: MySQL needs its performance schema and the privilege to SELECT there;
// MariaDB needs the plugin metadata_lock_info (INSTALL SONAME 'metadata_lock_info').
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
	var found []session.Holder
	err := l.queue.Inspect(ctx, func(s *session.Session) (err error) {
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

// inTheWay is the holder when the call timed out, nil if that is not known.
func (l *Locker) inTheWay(late *queue.Late) *Holder {
	if late.Holder == nil {
		return nil
	}
	h := l.holder(*late.Holder)
	return &h
}

// holder takes the namespace off the name. A server that folds changes no character into
// two.
func (l *Locker) holder(h session.Holder) Holder {
	for range utf8.RuneCountInString(l.namespace) {
		_, size := utf8.DecodeRuneInString(h.Name)
		h.Name = h.Name[size:]
	}
	return Holder(h)
}

func inspectError(name string, err error) error {
	return &Error{Op: OpInspect, Name: name, Err: err}
}
