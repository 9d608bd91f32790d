package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A member of the crew is a worker, from the director's side. When the worker
// is killed, another worker replaces it.
type member struct {
	director *director
	number   int
	network  *network

	mu      sync.Mutex
	hired   int
	name    string
	process *exec.Cmd
	dead    bool // and not replaced yet
	orders  io.WriteCloser
	answers chan string
	stderr  *strings.Builder
}

// hire starts a worker.
func (m *member) hire() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hired++
	m.name = fmt.Sprintf("w%d.%d", m.number, m.hired)
	s := m.director.server
	asVictim := func(dsn string) string { return strings.Replace(dsn, "root@", victim+"@", 1) }
	description, err := json.Marshal(job{
		Name:       m.name,
		Seed:       m.director.seed + uint64(m.number)<<32 + uint64(m.hired)<<40,
		DSN:        asVictim(s.DSN()),
		FarDSN:     asVictim(s.DSNAt(m.network.addr)),
		Network:    m.network.name,
		WitnessDSN: s.DSN(),
		Folder:     m.director.folder,
		Round:      m.director.current,
	})
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), workerJob+"="+string(description))
	cmd.SysProcAttr = attributes()
	m.stderr = new(strings.Builder)
	cmd.Stderr = m.stderr
	if m.orders, err = cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	m.process, m.dead = cmd, false
	answers := make(chan string, 8)
	m.answers = answers
	go func() {
		defer close(answers)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			answers <- lines.Text()
		}
	}()
	return nil
}

// tell sends an order. It does nothing if the worker is dead.
func (m *member) tell(o order) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return
	}
	line, err := json.Marshal(o)
	if err == nil {
		_, err = m.orders.Write(append(line, '\n'))
	}
	if err != nil {
		m.director.fail(fmt.Errorf("order for %s: %w: %s", m.name, err, m.stderr))
	}
}

// hear waits for an answer, and reports whether it arrived.
func (m *member) hear(answer string, within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	for {
		select {
		case got, ok := <-m.answers:
			if !ok || got == answer {
				return ok
			}
		case <-timer.C:
			return false
		}
	}
}

// kill ends the worker without warning, and waits for its end.
func (m *member) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
	_ = m.process.Process.Kill()
	_ = m.process.Wait()
}

// leave lets the worker, which has closed everything, end by itself. If the
// worker ends in another way, leave returns an error: for example, the race
// detector makes it exit with a status of its own.
func (m *member) leave() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
	if err := errors.Join(m.orders.Close(), m.process.Wait()); err != nil {
		return fmt.Errorf("%s: %w\n%s", m.name, err, m.stderr)
	}
	return nil
}

// tellProcess calls what with the worker's process, unless the worker is dead.
func (m *member) tellProcess(what func(*os.Process) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return nil
	}
	return what(m.process.Process)
}

// stacks ends the worker, and returns the stacks of its goroutines.
func (m *member) stacks() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = m.process.Process.Signal(syscall.SIGQUIT)
	_ = m.process.Wait()
	return m.stderr.String()
}
