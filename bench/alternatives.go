package main

import (
	"time"

	"github.com/go-namedlock/namedlock"
)

// A contender is a lock that users could choose.
type contender struct {
	what, server string
	open         func() (lock, error)
	series       string // the name of its curve in the plot; empty: not drawn
}

// An alternative is a contender with its measurements.
type alternative struct {
	contender
	cycle samples // seconds, of one goroutine
	hot   samples // sections a second, of a crowd
}

// contenders returns the locks on a MySQL or MariaDB server.
func (t target) contenders() []contender {
	server := t.Version()
	return []contender{
		{"namedlock", server, func() (lock, error) { return t.locker() }, "namedlock"},
		{"namedlock, WithHandOff(10ms)", server, func() (lock, error) { return t.locker(namedlock.WithHandOff(handOff)) }, "namedlock, hand-off"},
		{"by hand, placeholders", server, t.byHandEach, "by hand"},
		{"atlas", server, t.atlas, ""},
	}
}

// others returns the contenders that do not use MySQL or MariaDB.
func (f *field) others() []contender {
	var others []contender
	if f.redis != nil {
		others = append(others, contender{"redislock", f.redis.Version, func() (lock, error) { return newRedisLock(f.redis) }, "redislock"})
	}
	if f.postgres != nil {
		others = append(others, contender{"advisory lock by hand", f.postgres.Version, func() (lock, error) { return newPostgresLock(f.postgres) }, "PostgreSQL"})
	}
	return append(others, contender{"sync.Mutex", "this process alone", func() (lock, error) { return &mutex{}, nil }, "sync.Mutex"})
}

// alternatives measures all contenders in turns.
func (f *field) alternatives(e effort) ([]alternative, error) {
	var all []alternative
	var locks []lock
	defer func() {
		for _, l := range locks {
			l.close()
		}
	}()
	var contenders []contender
	for _, t := range f.targets {
		contenders = append(contenders, t.contenders()...)
	}
	for _, c := range append(contenders, f.others()...) {
		l, err := c.open()
		if err != nil {
			return nil, err
		}
		locks = append(locks, l)
		all = append(all, alternative{contender: c})
	}
	name := newName("alternative")
	for range e.longPairs {
		for i, l := range locks {
			perSecond, err := throughput(l, 1, e.window, onOne(name))
			if err != nil {
				return nil, err
			}
			all[i].cycle = append(all[i].cycle, 1/perSecond)
		}
		for i, l := range locks {
			perSecond, err := throughput(l, crowd, e.window, onOne(name))
			if err != nil {
				return nil, err
			}
			all[i].hot = append(all[i].hot, perSecond)
		}
	}
	return all, nil
}

// A curve is one line of a plot.
type curve struct {
	name string
	x, y samples
}

// curves measures sections a second against goroutines, on one name.
func curves(contenders []contender, e effort) ([]curve, error) {
	var curves []curve
	for _, c := range contenders {
		if c.series == "" {
			continue
		}
		curve, err := c.curve(e)
		if err != nil {
			return nil, err
		}
		curves = append(curves, curve)
	}
	return curves, nil
}

func (c contender) curve(e effort) (curve, error) {
	l, err := c.open()
	if err != nil {
		return curve{}, err
	}
	defer l.close()
	drawn := curve{name: c.series}
	name := newName("curve")
	for n := 1; n <= crowd; n *= e.step {
		perSecond, err := medianOf(e.repeats, func() (float64, error) {
			return throughput(l, n, min(e.window, 200*time.Millisecond), onOne(name))
		})
		if err != nil {
			return curve{}, err
		}
		drawn.x = append(drawn.x, float64(n))
		drawn.y = append(drawn.y, perSecond)
	}
	return drawn, nil
}
