package servers

import (
	"errors"
	"sync"
)

// A Listening server runs in this process.
type Listening interface {
	// Close ends the server at once, with all its connections.
	Close() error
}

var embedded func(addr string) (Listening, error)

// RegisterEmbedded sets how Start(Embedded) listens on an address. Package embedded calls it, so that
// only those who import that package compile a database server. It is to be called by an init function.
func RegisterEmbedded(listen func(addr string) (Listening, error)) { embedded = listen }

func launchEmbedded(port int) (instance, error) {
	if embedded == nil {
		return nil, errors.New(`no embedded server in this program: import _ "github.com/go-namedlock/namedlock/e2e/servers/embedded"`)
	}
	l, err := embedded((&Server{port: port}).Addr())
	if err != nil {
		return nil, errors.Join(errPortTaken, err)
	}
	return &inProcess{server: l, done: make(chan struct{})}, nil
}

// An inProcess is an instance that runs in this process.
type inProcess struct {
	server Listening
	once   sync.Once
	err    error
	done   chan struct{}
}

func (p *inProcess) kill() error {
	p.once.Do(func() {
		p.err = p.server.Close()
		close(p.done)
	})
	return p.err
}

func (p *inProcess) terminate() error        { return p.kill() }
func (p *inProcess) pause() error            { return errors.ErrUnsupported }
func (p *inProcess) resume() error           { return errors.ErrUnsupported }
func (p *inProcess) exited() <-chan struct{} { return p.done }
