// Package servers runs real database servers for tests. They are private
// instances on ports and in folders of their own, which end with the process
// that started them, and leave nothing behind.
//
// The server programs must be on the machine. If they are not, Start returns a
// *MissingError that contains the command to get them. The script fetch.sh next
// to this file does that on a Debian-like machine.
package servers

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/go-namedlock/namedlock/internal/lateness"
)

// Kind is the name of a server product.
type Kind string

const (
	MySQL   Kind = "mysql"
	MariaDB Kind = "mariadb"
)

const (
	startTimeout    = 60 * time.Second // as package lateness counts, as shutdownTimeout
	busyAttempts    = 2                // of a start that a busy machine did not finish in time
	shutdownTimeout = 30 * time.Second
	pollInterval    = 5 * time.Millisecond
	portAttempts    = 5
)

// errPortTaken means that another program listens on the server's port.
var errPortTaken = errors.New("port taken")

// An instance is one run of a server, from its launch until it has exited.
type instance interface {
	kill() error      // ends it without warning, and waits until it has ended
	terminate() error // asks it to end cleanly, and does not wait
	pause() error
	resume() error
	exited() <-chan struct{}
}

// A Server is one database server, with one data directory and one port for its
// lifetime. Its methods may be called by several goroutines. Kill, Restart,
// Shutdown and Stop run one at a time.
type Server struct {
	kind    Kind
	port    int
	to      *mysql.Config // of a server that runs elsewhere; nil: this process started the server
	dir     *serverDir    // nil for a server elsewhere
	launch  func(port int) (instance, error)
	version string

	mu       sync.Mutex
	instance instance // the latest run
	stopped  bool
}

// Start runs a new server with an empty database "test" and returns when it
// answers. If the server's programs are not on the machine, it returns a
// *MissingError. If the machine was too busy to start it, it returns a
// *BusyError.
func Start(kind Kind, opts ...Option) (*Server, error) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}

	if why := attached(); why != "" {
		return nil, &MissingError{Kind: kind, Why: why}
	}
	s := &Server{kind: kind}
	if err := s.prepare(o); err != nil {
		return nil, fmt.Errorf("start %s: %w", kind, err)
	}
	var err error
	for range portAttempts {
		if s.port, err = FreePort(); err != nil {
			break
		}
		if err = s.runWhereBusy(); !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		err = fmt.Errorf("start %s: %w%s", kind, err, indent(s.Log()))
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// prepare finds the programs and makes the data directory.
func (s *Server) prepare(o options) error {
	switch s.kind {
	case MySQL:
		return s.prepareProgram(mysqlFlavour, o)
	case MariaDB:
		return s.prepareProgram(mariadbFlavour, o)
	}
	return errors.New("no such kind of server")
}

func (s *Server) prepareProgram(f flavour, o options) error {
	find := f.find
	if o.version != "" {
		find = func() (*program, error) { return f.findVersion(o.version) }
	}
	p, err := find()
	if err != nil {
		return err
	}
	if s.dir, err = newDir(); err != nil {
		return err
	}
	args := append(f.args(p), o.args...)
	s.launch = func(port int) (instance, error) { return p.serve(s.dir, port, args) }

	err = fillData(f, p, s.dir.join("data"))
	if err == nil && o.user != "" && os.Geteuid() == 0 {
		if p.user, err = user.Lookup(o.user); err == nil {
			err = s.dir.giveTo(p.user)
		}
	}
	if err != nil {
		return errors.Join(err, s.dir.remove())
	}
	return nil
}

// launches counts starts and restarts, by the texts of Launched.
var launches struct {
	mu    sync.Mutex
	count map[string]int
}

// Launched returns how many servers this process has launched, for example "12
// starts of mysql, 3 restarts of mysql".
func Launched() string {
	launches.mu.Lock()
	defer launches.mu.Unlock()
	var all []string
	for _, what := range slices.Sorted(maps.Keys(launches.count)) {
		all = append(all, fmt.Sprintf("%d %s", launches.count[what], what))
	}
	return strings.Join(all, ", ")
}

func (s *Server) countLaunch() {
	how := "starts"
	if s.version != "" { // it has answered before
		how = "restarts"
	}
	launches.mu.Lock()
	defer launches.mu.Unlock()
	if launches.count == nil {
		launches.count = map[string]int{}
	}
	launches.count[fmt.Sprintf("%s of %s", how, s.kind)]++
}

// runWhereBusy calls run again if the machine was too busy, since a start is
// the set-up of a test and not its subject.
func (s *Server) runWhereBusy() (err error) {
	var busy *BusyError
	for range busyAttempts {
		if err = s.run(); !errors.As(err, &busy) {
			return err
		}
	}
	return err
}

// run launches the server and waits until it answers. If run fails, no server
// is running.
func (s *Server) run() error {
	s.countLaunch()
	logged := len(s.readLog())
	i, err := s.launch(s.port)
	if err != nil {
		return err
	}
	s.instance = i
	if err := s.awaitReady(i); err != nil {
		err = errors.Join(err, i.kill())
		if portTaken(s.readLog()[logged:]) {
			err = fmt.Errorf("%w: %w", errPortTaken, err)
		}
		return err
	}
	return nil
}

// awaitReady polls until the server answers from its own data directory. If
// another server has taken the port in the meantime, that server would answer.
func (s *Server) awaitReady(i instance) error {
	cfg, err := mysql.ParseDSN(s.DSN("timeout=1s", "readTimeout=5s"))
	if err != nil {
		return err
	}
	cfg.Logger = &mysql.NopLogger{} // the default logger would log each failed attempt
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()

	ctx, cancel := lateness.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	go func() {
		select {
		case <-i.exited():
			cancel()
		case <-ctx.Done():
		}
	}()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		var version, dir string
		err := db.QueryRowContext(ctx, "SELECT VERSION(), @@datadir").Scan(&version, &dir)
		if err == nil {
			if s.dir != nil && filepath.Clean(dir) != s.dir.join("data") {
				return fmt.Errorf("%w by a server with its data in %s", errPortTaken, dir)
			}
			if s.version == "" {
				s.version = productName(s.kind, version)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			select {
			case <-i.exited():
				return errors.New("the server ended while it was starting")
			default:
				return noAnswer(ctx, s.kind, err)
			}
		case <-tick.C:
		}
	}
}

func productName(k Kind, version string) string {
	version, _, _ = strings.Cut(version, "-")
	if k == MySQL {
		return "MySQL " + version
	}
	return "MariaDB " + version
}

// Kind returns the product that Start was called with.
func (s *Server) Kind() Kind { return s.kind }

// Version returns product and version as the server reports them, for example
// "MySQL 9.7.4".
func (s *Server) Version() string { return s.version }

// Addr returns the server's address: 127.0.0.1 and a port, if this process
// started it. Restart does not change the address.
func (s *Server) Addr() string {
	if s.to != nil {
		return s.to.Addr
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
}

// User returns the user of the server's DSN: root, if this process started the
// server.
func (s *Server) User() string {
	if s.to != nil {
		return s.to.User
	}
	return "root"
}

// DSN returns a data source name for go-sql-driver/mysql: the user root,
// without a password, and the database "test". Each of params is one of the
// driver's parameters, for example "interpolateParams=true".
func (s *Server) DSN(params ...string) string { return s.DSNAt(s.Addr(), params...) }

// DSNAt is DSN through another address, for example that of a proxy in front of
// the server.
func (s *Server) DSNAt(addr string, params ...string) string {
	dsn := "root@tcp(" + addr + ")/test"
	if s.to != nil {
		to := s.to.Clone()
		to.Addr = addr
		dsn = to.FormatDSN()
	}
	if len(params) == 0 {
		return dsn
	}
	separator := "?"
	if strings.Contains(dsn[strings.LastIndex(dsn, "/"):], "?") {
		separator = "&"
	}
	return dsn + separator + strings.Join(params, "&")
}

// Pause freezes the server: its connections stay open, but it does not answer
// until Resume. On a system that cannot freeze a process, Pause returns
// errors.ErrUnsupported.
func (s *Server) Pause() error { return s.current().pause() }

// Resume ends a Pause.
func (s *Server) Resume() error { return s.current().resume() }

func (s *Server) current() instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.instance
}

// Kill ends the server without warning, like a crash, and returns when it has
// ended. If the server is not running, Kill does nothing and returns nil.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.instance.kill()
}

// Shutdown ends the server cleanly and returns when it has ended. If the server
// does not end within 30 s, or later on a busy machine, Shutdown kills it and
// returns an error. If the server is not running, Shutdown does nothing and
// returns nil.
func (s *Server) Shutdown() error {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.to != nil {
		return errors.ErrUnsupported
	}
	select {
	case <-s.instance.exited():
		return nil
	default:
	}
	err := errors.Join(s.instance.terminate(), s.instance.resume())
	if errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	ctx, cancel := lateness.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	select {
	case <-s.instance.exited():
		return err
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("%s did not shut down: %w", s.version, context.Cause(ctx)), err, s.instance.kill())
	}
}

// Restart starts the server again after Kill or Shutdown, on the same port with
// the same data. It returns when the server answers.
func (s *Server) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.stopped {
		return errors.New("restart: Stop was called")
	}
	select {
	case <-s.instance.exited():
	default:
		return errors.New("restart: the server is still running")
	}
	if err := s.runWhereBusy(); err != nil {
		return fmt.Errorf("restart %s: %w%s", s.kind, err, indent(s.Log()))
	}
	return nil
}

// Stop ends the server permanently and removes its data directory. Calls after
// the first do nothing.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.stopped {
		return nil
	}
	s.stopped = true
	var err error
	if s.instance != nil && s.to == nil {
		err = s.instance.kill()
	}
	if s.dir != nil {
		err = errors.Join(err, s.dir.remove())
	}
	return err
}

// Log returns the last lines of the server's error log, for the message of a
// failed test. It is empty after Stop, and for a server that runs elsewhere.
func (s *Server) Log() string {
	const most = 8 << 10
	b := s.readLog()
	if len(b) > most {
		_, b, _ = bytes.Cut(b[len(b)-most:], []byte("\n"))
	}
	return string(b)
}

func (s *Server) readLog() []byte {
	if s.dir == nil {
		return nil
	}
	b, _ := os.ReadFile(s.dir.join("error.log"))
	return b
}

// portTaken reports whether the log contains the error of a taken port. MySQL
// and MariaDB report it only in their logs.
func portTaken(log []byte) bool {
	return bytes.Contains(log, []byte("Address already in use")) || bytes.Contains(log, []byte("Bind on TCP/IP port"))
}

func indent(log string) string {
	if log = strings.TrimSpace(log); log == "" {
		return ""
	}
	return "\n\t" + strings.ReplaceAll(log, "\n", "\n\t")
}
