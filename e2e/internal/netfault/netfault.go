// Package netfault is a TCP proxy that stands for a network which falls silent,
// or is slow. Nothing passes a silent one in either direction: no data, and no
// word of a side that has closed its end, so that each side believes that the
// other is there. As on a real network, what was sent meanwhile arrives when it
// is healed.
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

// A Proxy passes connections on to a server that speaks MySQL's protocol.
type Proxy struct {
	listener net.Listener
	target   string
	work     sync.WaitGroup
	pace     atomic.Int64

	mu       sync.Mutex
	closed   bool
	network  *gate           // of connections to come
	conns    map[*link]*gate // and of those that there are
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

// Listen returns a proxy before the server at target.
func Listen(target string) (*Proxy, error) { return ListenAt("127.0.0.1:0", target) }

// ListenAt is Listen at an address of the caller's choice.
func ListenAt(addr, target string) (*Proxy, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, target: target, network: newGate(), conns: make(map[*link]*gate)}
	p.work.Go(p.accept)
	return p, nil
}

// Addr is where clients connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Accepted returns how many connections there have been.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// Silence lets nothing through any more, on connections that there are and on
// new ones.
func (p *Proxy) Silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.network.silence()
}

// Strand silences the connections that there are for good. New ones work: a
// firewall or a router on the way has forgotten the old.
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

// Pace has each packet that the server sends, a row or part of another answer,
// take that long, and arrive by itself.
func (p *Proxy) Pace(d time.Duration) { p.pace.Store(int64(d)) }

// Close ends the proxy and all its connections. Its address can be listened on
// again at once.
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
			_ = client.(*net.TCPConn).SetLinger(0) // refused, as far as can be
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

// pass passes on what read reads from one side, and the end of it, when the
// gate is open.
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
			_ = from.Close() // databases know no half-closed connections
			_ = to.Close()
			return
		}
	}
}

// packets returns a function that reads a packet, or as much of it as there is
// room for, at the pace that is set.
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
