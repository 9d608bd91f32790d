// Package rivals runs private servers of alternatives to MySQL's named locks:
// Redis and PostgreSQL. They use free ports and temporary folders, and end with
// the process that started them.
package rivals

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/go-namedlock/namedlock/e2e/servers"
)

// ErrMissing is returned if the server's programs are not on this machine.
var ErrMissing = errors.New("not on this machine")

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 10 * time.Second
)

// A Server is a private server that runs until Stop.
type Server struct {
	Version string // product and version, as the program reports them
	Addr    string // 127.0.0.1 and a port

	dir  string
	stop syscall.Signal // the signal that ends the server quickly and cleanly
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

// Redis starts a redis-server that keeps nothing on disk.
func Redis() (*Server, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("redis-server is %w", ErrMissing)
	}
	s, port, err := newServer(syscall.SIGTERM)
	if err != nil {
		return nil, err
	}
	// "Redis server v=7.0.15 sha=..."
	if s.Version, err = version(program, func(out string) string {
		_, v, _ := strings.Cut(out, "v=")
		v, _, _ = strings.Cut(v, " ")
		return "Redis " + v
	}); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	err = s.start(exec.Command(program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", s.dir), nil, s.listens)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", s.Version, err), s.Stop())
	}
	return s, nil
}

// Postgres starts a PostgreSQL server with a superuser "postgres" without a
// password. PostgreSQL refuses to run as root. If this process runs as root,
// the server runs as the user that unprivileged returns.
func Postgres() (*Server, error) {
	bin := postgresFolder()
	if bin == "" {
		return nil, fmt.Errorf("PostgreSQL (initdb and postgres) is %w", ErrMissing)
	}
	s, port, err := newServer(syscall.SIGQUIT)
	if err != nil {
		return nil, err
	}
	// "postgres (PostgreSQL) 15.20 (Debian ...)"
	if s.Version, err = version(filepath.Join(bin, "postgres"), func(out string) string {
		_, v, _ := strings.Cut(out, ") ")
		v, _, _ = strings.Cut(strings.TrimSpace(v), " ")
		return "PostgreSQL " + v
	}); err == nil {
		err = s.startPostgres(bin, port)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start PostgreSQL: %w", err), s.Stop())
	}
	return s, nil
}

func (s *Server) startPostgres(bin, port string) error {
	as, err := unprivileged()
	if err != nil {
		return err
	}
	if as != nil {
		if err := giveTo(s.dir, as); err != nil {
			return err
		}
	}
	data := filepath.Join(s.dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "--pgdata="+data, "--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
	initdb.Dir = s.dir
	if initdb.SysProcAttr, err = attributes(as, syscall.SIGKILL); err != nil {
		return err
	}
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	// Durability is traded for speed, as it is for the other servers.
	return s.start(exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-p", port,
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off",
		"-c", "synchronous_commit=off", "-c", "max_connections=200", "-c", "shared_buffers=32MB"), as, s.answersSQL)
}

// DSN returns a connection string for PostgreSQL.
func (s *Server) DSN() string { return "postgres://postgres@" + s.Addr + "/postgres?sslmode=disable" }

// answersSQL reports whether PostgreSQL answers, since it listens before it is
// ready.
func (s *Server) answersSQL() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.DSN())
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

func (s *Server) listens() error {
	conn, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

// postgresFolder returns the folder of initdb and postgres, which Debian does
// not put on PATH.
func postgresFolder() string {
	candidates, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if program, err := exec.LookPath("postgres"); err == nil {
		candidates = append(candidates, filepath.Dir(program))
	}
	for i := len(candidates) - 1; i >= 0; i-- {
		_, err := exec.LookPath(filepath.Join(candidates[i], "initdb"))
		if err == nil {
			return candidates[i]
		}
	}
	return ""
}

// unprivileged returns the user to run a server as: postgres, or else an
// unprivileged user that most systems have. It returns nil if this process does
// not run as root. Then the server runs as this process's user.
func unprivileged() (*user.User, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	return u, err
}

func giveTo(dir string, u *user.User) error {
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	return os.Chown(dir, uid, -1)
}

func version(program string, extract func(out string) string) (string, error) {
	out, err := exec.Command(program, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", filepath.Base(program), err)
	}
	return extract(string(out)), nil
}

func newServer(stop syscall.Signal) (s *Server, port string, err error) {
	free, err := servers.FreePort()
	if err != nil {
		return nil, "", err
	}
	dir, err := os.MkdirTemp("", "namedlock-bench-")
	if err != nil {
		return nil, "", err
	}
	port = strconv.Itoa(free)
	return &Server{Addr: net.JoinHostPort("127.0.0.1", port), dir: dir, stop: stop}, port, nil
}

// start runs cmd as the given user and returns when the server is ready.
func (s *Server) start(cmd *exec.Cmd, as *user.User, ready func() error) error {
	var err error
	if cmd.SysProcAttr, err = attributes(as, s.stop); err != nil {
		return err
	}
	cmd.Dir = s.dir
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out

	// The system sends the signal for the end of the parent when the thread that
	// forked ends. Therefore the goroutine keeps its thread for as long as the
	// server runs.
	started := make(chan error)
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(done)
	}()
	if err := <-started; err != nil {
		return err
	}
	s.cmd, s.done = cmd, done

	deadline := time.Now().Add(startTimeout)
	for time.Now().Before(deadline) {
		select {
		case <-done:
			return fmt.Errorf("the server ended while it was starting:\n%s", out.String())
		default:
		}
		if err = ready(); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("the server is not ready after %v: %w", startTimeout, err)
}

// Stop ends the server and removes its data.
func (s *Server) Stop() error {
	if s.cmd != nil {
		if s.cmd.Process.Signal(s.stop) != nil {
			_ = s.cmd.Process.Kill()
		}
		select {
		case <-s.done:
		case <-time.After(stopTimeout):
			_ = s.cmd.Process.Kill()
			<-s.done
		}
	}
	return os.RemoveAll(s.dir)
}
