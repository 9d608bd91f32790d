// Package netfault is a TCP proxy that simulates a network that is silent or
// slow. A silent network passes nothing in either direction: no data, and no
// end of a connection, so that each side still considers the other side
// connected. As on a real network, the bytes that were sent in the meantime
// arrive when the network is healed.
package netfault

import (
	"bufio"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-namedlock/namedlock/e2e/servers"
)

// A Proxy passes connections to a server that uses MySQL's protocol.
type Proxy struct {
	listener net.Listener
	target   string
	work     sync.WaitGroup
	pace     atomic.Int64

	mu       sync.Mutex
	closed   bool
	network  *gate           // for new connections
	conns    map[*link]*gate // for existing connections
	accepted int
}

// A link is a connection through the proxy.
type link struct{ client, server net.Conn }

// A gate is open or silent.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // closed while the gate is open
}

func newGate() *gate {
	g := &gate{open: make(chan struct{})}
	close(g.open)
	return g
}

func (g *gate) passage() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

func (g *gate) isOpen() bool {
	select {
	case <-g.open:
		return true
	default:
		return false
	}
}

func (g *gate) silence() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isOpen() {
		g.open = make(chan struct{})
	}
}

func (g *gate) heal() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.isOpen() {
		close(g.open)
	}
}

// Listen returns a proxy in front of the server at target.
func Listen(target string) (*Proxy, error) { return ListenAt("127.0.0.1:0", target) }

// ListenAt is Listen at the given address.
func ListenAt(addr, target string) (*Proxy, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, target: target, network: newGate(), conns: make(map[*link]*gate)}
	p.work.Go(p.accept)
	return p, nil
}

// Addr returns the address that clients connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Accepted returns how many connections the proxy has accepted.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// Silence blocks all bytes, on existing connections and on new ones.
func (p *Proxy) Silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.network.silence()
}

// Strand silences the existing connections permanently. New connections work,
// as after a firewall or a router has dropped its state.
func (p *Proxy) Strand() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.network.silence()
	p.network = newGate()
}

// Heal ends a Silence.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.network.heal()
}

// Pace delays each packet that the server sends by d. A packet, for example a
// row, is sent alone.
func (p *Proxy) Pace(d time.Duration) { p.pace.Store(int64(d)) }

// Close ends the proxy and all its connections. Its address can be used again
// at once.
func (p *Proxy) Close() error {
	err := servers.CloseListener(p.listener)
	p.mu.Lock()
	p.closed = true
	for c, g := range p.conns {
		_ = c.client.Close()
		_ = c.server.Close()
		g.heal()
	}
	p.mu.Unlock()
	p.work.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.(*net.TCPConn).SetLinger(0) // as close to a refused connection as possible
			_ = client.Close()
			continue
		}
		p.add(&link{client, server})
	}
}

func (p *Proxy) add(c *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accepted++
	if p.closed {
		_ = c.client.Close()
		_ = c.server.Close()
		return
	}
	g := p.network
	p.conns[c] = g
	var both sync.WaitGroup
	both.Go(func() { pass(c.server, c.client, c.client.Read, g) })
	both.Go(func() { pass(c.client, c.server, p.packets(c.server), g) })
	p.work.Go(func() {
		both.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, c)
	})
}

// pass passes the bytes that read returns to the other side while the gate is
// open, and the end of the connection.
func pass(to, from net.Conn, read func([]byte) (int, error), g *gate) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := read(buffer)
		<-g.passage()
		if n > 0 {
			if _, failed := to.Write(buffer[:n]); err == nil {
				err = failed
			}
		}
		if err != nil {
			_ = from.Close() // the protocol has no half-closed connections
			_ = to.Close()
			return
		}
	}
}

// packets returns a function that reads a packet, or as much of it as fits into
// the buffer, at the current pace.
func (p *Proxy) packets(from io.Reader) func([]byte) (int, error) {
	r, left := bufio.NewReaderSize(from, 32<<10), 0
	return func(buffer []byte) (int, error) {
		if left == 0 {
			header, err := r.Peek(4)
			if err != nil {
				return 0, err
			}
			left = 4 + int(header[0]) + int(header[1])<<8 + int(header[2])<<16
			time.Sleep(time.Duration(p.pace.Load()))
		}
		n, err := r.Read(buffer[:min(len(buffer), left)])
		left -= n
		return n, err
	}
}
