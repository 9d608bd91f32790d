package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/go-namedlock/namedlock"
)

// freshLine counts the round trips of a Locker's first lock on a new
// connection, without those of connecting.
func freshLine(t target, _ effort) ([]row, error) {
	connecting, err := t.roundTrips(func(db *pool) (undo func() error, err error) {
		conn, err := db.Conn(background)
		if err != nil {
			return nil, err
		}
		return conn.Close, nil
	})
	if err != nil {
		return nil, err
	}
	byHand, err := t.roundTrips(func(db *pool) (undo func() error, err error) {
		conn, err := db.Conn(background)
		if err != nil {
			return nil, err
		}
		return conn.Close, one(conn.QueryRowContext(background, "SELECT GET_LOCK(?, ?)", newName("fresh"), 0))
	})
	if err != nil {
		return nil, err
	}
	locking, err := t.roundTrips(func(db *pool) (undo func() error, err error) {
		l, err := namedlock.Open(db.DB)
		if err != nil {
			return nil, err
		}
		lock, err := l.Acquire(background, newName("fresh"), patience)
		if err != nil {
			return nil, err
		}
		return func() error { return errors.Join(lock.Release(), l.Close()) }, nil
	})
	if err != nil {
		return nil, err
	}
	return []row{
		count("a fresh session: round trips of the first lock beyond those of connecting", samples{float64(locking - connecting)}, atMost(3, "")).
			beside(fmt.Sprintf("%d by hand", byHand-connecting)),
	}, nil
}

// roundTrips counts the round trips of f, but not of undo, with a db that does
// not have a connection yet.
func (t target) roundTrips(f func(db *pool) (undo func() error, err error)) (int, error) {
	p, err := newProxy(t.Addr())
	if err != nil {
		return 0, err
	}
	defer p.close()
	db, err := t.connect(p.listener.Addr().String())
	if err != nil {
		return 0, err
	}
	defer db.Close()
	undo, err := f(db)
	if err != nil {
		return 0, err
	}
	trips := p.count()
	return trips, undo()
}

// A proxy passes bytes between clients and a server, and counts round trips. A
// round trip is an answer of the server after the client has sent packets,
// whatever their number. A packet without an answer does not count.
type proxy struct {
	listener net.Listener
	server   string
	all      sync.WaitGroup

	mu    sync.Mutex
	asked bool // the client sent the last packet
	trips int
	conns []net.Conn
}

func newProxy(server string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, server: server}
	p.all.Go(p.accept)
	return p, nil
}

func (p *proxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trips
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		p.all.Go(func() { p.pass(client, server, true) })
		p.all.Go(func() { p.pass(server, client, false) })
	}
}

func (p *proxy) pass(from, to net.Conn, fromClient bool) {
	defer to.Close()
	_, _ = io.Copy(writerFunc(func(b []byte) (int, error) {
		p.mu.Lock()
		if p.asked && !fromClient {
			p.trips++
		}
		p.asked = fromClient
		p.mu.Unlock()
		return to.Write(b)
	}), from)
}

type writerFunc func(b []byte) (int, error)

func (w writerFunc) Write(b []byte) (int, error) { return w(b) }

func (p *proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	for _, conn := range p.conns {
		conn.Close()
	}
	p.mu.Unlock()
	p.all.Wait()
}
