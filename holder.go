package namedlock

import (
	"fmt"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock/internal/printable"
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
