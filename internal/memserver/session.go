package memserver

import (
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A session is one connection, as the server sees it.
type session struct {
	server *Server
	id     int
	net    net.Conn
	gone   chan struct{} // closed when the client has gone
	dead   bool          // guarded by Server.mu

	waitTimeout int // in seconds; serve's
}

func (s *Server) accept(conn net.Conn) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &session{server: s, id: len(s.sessions) + 1, net: conn, gone: make(chan struct{}), waitTimeout: 28800}
	s.sessions = append(s.sessions, c)
	go c.serve()
	return c
}

// serve answers one command after the other until the client goes.
func (c *session) serve() {
	defer c.server.end(c)
	defer c.net.Close()
	w := &wire{conn: c.net}
	if w.greet(c.id) != nil {
		close(c.gone)
		return
	}
	commands := make(chan []byte)
	go func() { // beside, for a client can go while its statement runs
		defer close(c.gone)
		for {
			packet, err := w.read()
			if err != nil || packet[0] == comQuit {
				return
			}
			commands <- packet
		}
	}()
	for {
		select {
		case <-c.gone:
			return
		case packet := <-commands:
			if !c.answer(w, packet) {
				_ = c.net.Close()
				<-c.gone
				return
			}
		}
	}
}

func (c *session) answer(w *wire, packet []byte) (goesOn bool) {
	if packet[0] != comQuery {
		return w.fail(erTooManyStatements) == nil // nothing is prepared here
	}
	st := Statement{c.id, string(packet[1:])}
	s := c.server
	s.mu.Lock()
	s.sent = append(s.sent, st)
	script := s.script
	s.mu.Unlock()
	var reply *Reply
	if script != nil {
		reply = script(st)
	}
	if reply == nil || reply.Run {
		row, ok := c.run(st.Text)
		switch {
		case !ok:
			return false
		case reply == nil:
			return w.row(row) == nil
		}
	}
	switch {
	case reply.Hang:
		<-c.gone
		return false
	case reply.Drop:
		return false
	case reply.Number != 0:
		return w.fail(reply.Number) == nil
	}
	return w.row(reply.Row) == nil
}

var (
	getLock     = regexp.MustCompile(`GET_LOCK\('([^']*)', ([^)]*)\)`)
	releaseLock = regexp.MustCompile(`RELEASE_LOCK\('([^']*)'\)`)
	isUsedLock  = regexp.MustCompile(`IS_USED_LOCK\('([^']*)'\)`)
)

// run returns the one row of the answer; no row is for statements that have none. It
// returns false if the client has gone.
func (c *session) run(text string) (row []any, ok bool) {
	s := c.server
	if m := getLock.FindStringSubmatch(text); m != nil {
		seconds, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			panic(err)
		}
		return c.getLock(m[1], time.Duration(seconds*float64(time.Second)))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	readOnly := 0
	if s.readOnly {
		readOnly = 1
	}
	if m := releaseLock.FindStringSubmatch(text); m != nil {
		switch l := s.locks[m[1]]; {
		case l == nil:
			return []any{nil}, true
		case l.holder != c:
			return []any{0}, true
		}
		s.freeLocked(m[1])
		return []any{1}, true
	}
	switch {
	case strings.Contains(text, "IS_USED_LOCK"):
		for _, m := range isUsedLock.FindAllStringSubmatch(text, -1) {
			owned := 0
			if l := s.locks[m[1]]; l != nil && l.holder == c {
				owned = 1
			}
			row = append(row, owned)
		}
		row = append(row, readOnly)
		if strings.Contains(text, "@@innodb_read_only") {
			row = append(row, 0)
		}
		if strings.Contains(text, "@@wait_timeout") {
			row = append(row, c.waitTimeout)
		}
		return row, true
	case strings.Contains(text, "VERSION()"):
		row = []any{"10.11.0-MariaDB", "in memory", "utf8mb4", "utf8mb4", c.waitTimeout}
		if strings.Contains(text, "RELEASE_ALL_LOCKS") {
			row = append(row, 0)
		}
	case text == "SELECT @@wait_timeout":
		return []any{c.waitTimeout}, true
	case strings.Contains(text, "max_statement_time"):
		return []any{0}, true
	case strings.HasPrefix(text, "SET "):
		_, _ = fmt.Sscanf(text, "SET SESSION wait_timeout = %d", &c.waitTimeout)
		return nil, true
	}
	if strings.Contains(text, "@@read_only, @@innodb_read_only") {
		row = append(row, readOnly, 0)
	}
	if strings.Contains(text, "@@character_set_results") {
		row = append(row, "utf8mb4")
	}
	if strings.Contains(text, "/*M!") {
		row = append(row, 0)
	}
	if row == nil {
		panic(fmt.Sprintf("memserver: what is %q?", text))
	}
	return row, true
}

func (c *session) getLock(name string, wait time.Duration) (row []any, ok bool) {
	s := c.server
	s.mu.Lock()
	l := s.locks[name]
	switch {
	case l == nil:
		s.locks[name] = &lock{holder: c}
		fallthrough
	case l.holder == c: // once more: such a lock is freed at once here, and tests would see it
		s.mu.Unlock()
		return []any{1}, true
	case wait <= 0:
		s.mu.Unlock()
		return []any{0}, true
	}
	w := &waiter{c, make(chan struct{})}
	l.waiters = append(l.waiters, w)
	s.mu.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-w.granted:
		return []any{1}, true
	case <-c.gone:
		return nil, false
	case <-timer.C:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.holder == c {
		return []any{1}, true // in the same moment
	}
	for i := range l.waiters {
		if l.waiters[i] == w {
			l.waiters = append(l.waiters[:i], l.waiters[i+1:]...)
			break
		}
	}
	return []any{0}, true
}
