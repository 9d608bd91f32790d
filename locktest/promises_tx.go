package locktest

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"time"

	"github.com/go-namedlock/namedlock"
)

// startTx returns a process that has WithLockTx, or skips the test.
func (s *suite) startTx() Process {
	p := s.start()
	if p.WithLockTx == nil {
		s.Skip("needs WithLockTx, which the factory does not provide")
	}
	return p
}

func nothingTx(context.Context, *sql.Tx) error { return nil }

func txReleased(s *suite) {
	p, other, name := s.startTx(), s.start(), s.name("tx")
	own := errors.New("fn's own")
	for about, end := range map[string]func() error{
		"return": func() error { return nil },
		"error":  func() error { return own },
		"panic":  func() error { panic(own) },
		"Goexit": func() error { runtime.Goexit(); return nil },
	} {
		s.Logf("fn ends by: %s", about)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			defer func() {
				if value := recover(); value != nil {
					s.equal(value, own, "the panic's value")
				}
			}()
			_ = p.WithLockTx(s.Context(), name, 0, nil, func(context.Context, *sql.Tx) error {
				s.matches(other.WithLock(s.Context(), name, 0, nothing), namedlock.ErrTimeout)
				return end()
			})
		}()
		<-ended
		s.free(other, name)
		s.free(p, name)
	}
}

func txFnsError(s *suite) {
	p, name := s.startTx(), s.name("tx")
	own := errors.New("fn's own")
	s.equal(p.WithLockTx(s.Context(), name, 0, nil, func(context.Context, *sql.Tx) error { return own }), own, "WithLockTx's error")
	s.noError(p.WithLockTx(s.Context(), name, 0, nil, nothingTx), "WithLockTx")
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	err := p.WithLockTx(ctx, name, 0, nil, func(context.Context, *sql.Tx) error {
		cancel()
		return nil
	})
	s.matches(err, context.Canceled)
	s.free(p, name)
}

func txLocksNest(s *suite) {
	p, other, name, inner := s.startTx(), s.start(), s.name("tx"), s.name("inner")
	s.noError(p.WithLockTx(s.Context(), name, patience, nil, func(ctx context.Context, _ *sql.Tx) error {
		s.matches(p.WithLock(ctx, name, 0, nothing), namedlock.ErrReentrant)
		s.noError(other.WithLock(s.Context(), inner, 0, func(context.Context) error {
			s.matches(p.WithLock(ctx, inner, 10*time.Millisecond, nothing), namedlock.ErrTimeout)
			return nil
		}), "the other's lock")
		s.noError(p.WithLock(ctx, inner, patience, nothing), "the nested lock")
		return nil
	}), "WithLockTx")
	s.free(other, name)
	s.free(other, inner)
}

func txInTx(s *suite) {
	p, name, inner := s.startTx(), s.name("tx"), s.name("inner")
	s.noError(p.WithLockTx(s.Context(), name, patience, nil, func(ctx context.Context, _ *sql.Tx) error {
		s.matches(p.WithLockTx(ctx, inner, patience, nil, nothingTx), namedlock.ErrInTransaction)
		return nil
	}), "WithLockTx")
	s.free(p, name)
}
