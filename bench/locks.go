package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	atlasmysql "ariga.io/atlas/sql/mysql"
	atlas "ariga.io/atlas/sql/schema"
	"github.com/bsm/redislock"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/go-namedlock/namedlock/bench/internal/rivals"
)

// A lock runs one section of a name at a time. The implementations follow their
// documentation, or the code that users write.
type lock interface {
	section(name string, fn func()) error
	close()
}

// prepared is the least cost of two round trips: both statements are prepared
// beforehand, on one connection. Only one goroutine can use it, since a session
// may acquire its own locks again.
type prepared struct {
	*session
	get, release *sql.Stmt
}

func (t target) prepared() (*prepared, error) {
	s, err := t.session()
	if err != nil {
		return nil, err
	}
	p := &prepared{session: s}
	if p.get, err = s.PrepareContext(background, "SELECT GET_LOCK(?, ?)"); err == nil {
		p.release, err = s.PrepareContext(background, "SELECT RELEASE_LOCK(?)")
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return p, nil
}

func (p *prepared) take(ctx context.Context, name string) error {
	return one(p.get.QueryRowContext(ctx, name, patience.Seconds()))
}

func (p *prepared) give(ctx context.Context, name string) error {
	return one(p.release.QueryRowContext(ctx, name))
}

func (p *prepared) cycle(ctx context.Context, name string) error {
	if err := p.take(ctx, name); err != nil {
		return err
	}
	return p.give(ctx, name)
}

func (p *prepared) section(name string, fn func()) error {
	if err := p.take(background, name); err != nil {
		return err
	}
	fn()
	return p.give(background, name)
}

// byHand is the code that users write: both statements with placeholders, on
// one connection. Only one goroutine can use it.
type byHand struct{ *session }

func (t target) byHand() (*byHand, error) {
	s, err := t.session()
	if err != nil {
		return nil, err
	}
	return &byHand{s}, nil
}

func (b *byHand) section(name string, fn func()) error { return handWritten(b.Conn, name, fn) }

func handWritten(conn *sql.Conn, name string, fn func()) error {
	if err := one(conn.QueryRowContext(background, "SELECT GET_LOCK(?, ?)", name, int(patience.Seconds()))); err != nil {
		return err
	}
	fn()
	return one(conn.QueryRowContext(background, "SELECT RELEASE_LOCK(?)", name))
}

// byHandEach is byHand for many goroutines: each section borrows a connection
// of its own.
type byHandEach struct{ *pool }

func (t target) byHandEach() (lock, error) {
	p, err := t.connect(t.Addr())
	if err != nil {
		return nil, err
	}
	return byHandEach{p}, nil
}

func (b byHandEach) close() { b.pool.Close() }

func (b byHandEach) section(name string, fn func()) error {
	conn, err := b.Conn(background)
	if err != nil {
		return err
	}
	defer conn.Close()
	return handWritten(conn, name, fn)
}

// atlasLock is the lock of ariga.io/atlas's MySQL driver.
type atlasLock struct {
	pool   *pool
	locker atlas.Locker
}

func (t target) atlas() (lock, error) {
	p, err := t.connect(t.Addr())
	if err != nil {
		return nil, err
	}
	driver, err := atlasmysql.Open(p.DB)
	if err == nil {
		if locker, ok := driver.(atlas.Locker); ok {
			return &atlasLock{p, locker}, nil
		}
		err = errors.New("atlas's driver does not implement schema.Locker")
	}
	p.Close()
	return nil, err
}

func (a *atlasLock) close() { a.pool.Close() }

func (a *atlasLock) section(name string, fn func()) error {
	unlock, err := a.locker.Lock(background, name, patience)
	if err != nil {
		return err
	}
	fn()
	return unlock()
}

// redisLock is the lock of bsm/redislock, which can only poll. It polls every 1
// ms, the shortest reasonable pause. That gives it more throughput than the 100
// ms of its documentation.
type redisLock struct {
	redis  *redis.Client
	client *redislock.Client
}

func newRedisLock(s *rivals.Server) (lock, error) {
	c := redis.NewClient(&redis.Options{Addr: s.Addr, PoolSize: 64})
	if err := c.Ping(background).Err(); err != nil {
		c.Close()
		return nil, err
	}
	return &redisLock{c, redislock.New(c)}, nil
}

func (r *redisLock) close() { r.redis.Close() }

func (r *redisLock) section(name string, fn func()) error {
	l, err := r.client.Obtain(background, name, patience, &redislock.Options{RetryStrategy: redislock.LinearBackoff(time.Millisecond)})
	if err != nil {
		return err
	}
	fn()
	return l.Release(background)
}

// postgresLock is a PostgreSQL advisory lock by hand. Each section borrows a
// connection of its own. The driver prepares the statements once for each
// connection.
type postgresLock struct{ *sql.DB }

func newPostgresLock(s *rivals.Server) (lock, error) {
	db, err := sql.Open("pgx", s.DSN())
	if err != nil {
		return nil, err
	}
	db.SetMaxIdleConns(64)
	return postgresLock{db}, db.Ping()
}

func (p postgresLock) close() { p.DB.Close() }

func (p postgresLock) section(name string, fn func()) error {
	conn, err := p.Conn(background)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(background, "SELECT pg_advisory_lock(hashtext($1))", name); err != nil {
		return err
	}
	fn()
	var released bool
	if err := conn.QueryRowContext(background, "SELECT pg_advisory_unlock(hashtext($1))", name).Scan(&released); err != nil {
		return err
	}
	if !released {
		return errors.New("pg_advisory_unlock: the lock was not held")
	}
	return nil
}

// mutex is the upper limit: a lock of this process alone.
type mutex struct{ sync.Mutex }

func (m *mutex) close() {}

func (m *mutex) section(_ string, fn func()) error {
	m.Lock()
	defer m.Unlock()
	fn()
	return nil
}

// throughput returns how many sections a second the goroutines run, each on the
// name that name returns for it. It returns an error if two sections of one
// name overlap.
func throughput(l lock, goroutines int, window time.Duration, name func(goroutine int) string) (float64, error) {
	const warmUp = 50 * time.Millisecond
	var (
		counting, stop atomic.Bool
		total          atomic.Int64
		mu             sync.Mutex
		failed         error
		running        sync.WaitGroup
	)
	inside := make(map[string]*atomic.Int32)
	for i := range goroutines {
		if inside[name(i)] == nil {
			inside[name(i)] = new(atomic.Int32)
		}
	}
	for i := range goroutines {
		name := name(i)
		inside := inside[name]
		running.Go(func() {
			count := int64(0)
			overlap := false
			for !stop.Load() {
				err := l.section(name, func() {
					overlap = inside.Add(1) != 1 || overlap
					// A section that starts after the window does not count. The callers still
					// in the queue run such sections.
					if counting.Load() && !stop.Load() {
						count++
					}
					inside.Add(-1)
				})
				if err == nil && overlap {
					err = fmt.Errorf("two sections of %s overlap", name)
				}
				if err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
					stop.Store(true)
				}
			}
			total.Add(count)
		})
	}
	time.Sleep(warmUp)
	counting.Store(true)
	start := time.Now()
	time.Sleep(window)
	took := time.Since(start)
	stop.Store(true)
	running.Wait()
	return float64(total.Load()) / took.Seconds(), failed
}

// onOne makes every goroutine use the same name.
func onOne(name string) func(int) string { return func(int) string { return name } }
