package memserver

import (
	"context"
	"maps"
	"net"
	"strings"

	"github.com/go-namedlock/namedlock/internal/locktable"
)

// A session is one connection, as the server sees it.
type session struct {
	server *Server
	id     int
	net    net.Conn
	locks  *locktable.Session[*session]
	gone   context.Context // ends when the client has gone
	leave  context.CancelFunc
	dead   bool // guarded by Server.mu
	inTx   bool // so is this: a transaction is open
	killed bool // and this: Kill has ended it
	left   bool // and this: the client has closed its end

	// serve's
	vars       map[string]string
	savepoints map[string]bool // of the transaction
	prepared   []string        // texts; the first is statement number 1
	mySQL      bool            // as Server.mySQL was when the session began
}

func (s *Server) accept(conn net.Conn) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &session{server: s, id: len(s.sessions) + 1, net: conn, vars: maps.Clone(defaults), mySQL: s.mySQL}
	if c.mySQL {
		maps.Copy(c.vars, defaultsOfMySQL)
		maps.DeleteFunc(c.vars, func(name, _ string) bool { return ofMariaDBAlone[name] })
	}
	c.locks = s.locks.Session(c)
	c.gone, c.leave = context.WithCancel(context.Background())
	s.sessions = append(s.sessions, c)
	go c.serve()
	return c
}

// serve answers one command after the other until the client goes.
func (c *session) serve() {
	defer c.server.end(c)
	defer c.leave()
	defer c.net.Close()
	w := &wire{conn: c.net}
	if w.greet(c.id, c.version()) != nil {
		return
	}
	commands := make(chan []byte)
	go func() { // a client can disconnect while its statement runs
		defer c.leave()
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
		case <-c.gone.Done():
			return
		case packet := <-commands:
			if !c.answer(w, packet) {
				_ = c.net.Close()
				<-c.gone.Done()
				return
			}
		}
	}
}

func (c *session) answer(w *wire, packet []byte) (goesOn bool) {
	s := c.server
	s.mu.Lock()
	prepares := s.prepares
	s.mu.Unlock()
	w.binary = packet[0] == comExecute
	switch packet[0] {
	case comQuery:
		return c.answerText(w, string(packet[1:]))
	case comPing:
		w.status = c.status()
		return w.ok(0) == nil
	case comCloseStatement:
		return true
	case comPrepare:
		if prepares {
			return c.prepare(w, string(packet[1:])) == nil
		}
	case comExecute:
		if prepares {
			return c.answerText(w, c.bound(packet))
		}
	}
	return w.fail(erTooManyStatements) == nil
}

// answerText carries out a statement that is complete, and answers it.
func (c *session) answerText(w *wire, text string) (goesOn bool) {
	st := Statement{c.id, text}
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
		own, ok := c.run(st.Text)
		switch {
		case !ok:
			return false
		case reply == nil:
			reply = own
		}
	}
	if reply.Number == erDeadlock && !strings.Contains(st.Text, "GET_LOCK") {
		c.endTx()
	}
	w.status, w.wide = c.status(), !c.mySQL && c.vars["character_set_results"] == "ucs2"
	switch {
	case reply.Hang:
		<-c.gone.Done()
		return false
	case reply.Drop:
		return false
	case reply.Number != 0:
		return w.fail(reply.Number) == nil
	}
	return w.row(reply.Row, reply.Affected) == nil
}
