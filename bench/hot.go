package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-namedlock/namedlock"
)

const (
	crowd   = 64 // goroutines that want a hot lock
	handOff = 10 * time.Millisecond
)

// hotLine compares a lock that many goroutines of one process want with one
// connection that runs the same sections by hand, as fast as it can.
func hotLine(t target, e effort) ([]row, error) {
	c, peak, err := t.hot(e)
	if err != nil {
		return nil, err
	}
	return []row{
		ratio(fmt.Sprintf("hot lock, %d goroutines, to one connection by hand", crowd), c, perSecond, atLeast(2, " ×")),
		count("connections of that", samples{float64(peak)}, atMost(2, "")),
	}, nil
}

// handOffLine is hotLine with hand-off. It also measures how long a foreign
// session waits for the lock, and whether callers are overtaken.
func handOffLine(t target, e effort) ([]row, error) {
	c, _, err := t.hot(e, namedlock.WithHandOff(handOff))
	if err != nil {
		return nil, err
	}
	waits, err := t.foreignWaits(e.foreign)
	if err != nil {
		return nil, err
	}
	overtaken, err := t.overtaken()
	if err != nil {
		return nil, err
	}
	p99 := count("a foreign session's wait at the same time, 99th percentile", samples{1000 * waits.quantile(0.99)}, atMost(50, " ms"))
	p99.spread = fmt.Sprintf("median %s, most %s, of %d", duration(waits.median()), duration(waits.quantile(1)), len(waits))
	return []row{
		ratio(fmt.Sprintf("hot lock with hand-off (%v), %d goroutines, to one connection by hand", handOff, crowd), c, perSecond, atLeast(50, " ×")),
		p99,
		count("callers of that process that were overtaken", samples{float64(overtaken)}, atMost(0, "")),
	}, nil
}

// hot compares sections a second, and returns the largest number of connections
// that the Locker had open.
func (t target) hot(e effort, opts ...namedlock.Option) (c comparison, peak int64, err error) {
	ours, err := t.locker(opts...)
	if err != nil {
		return c, 0, err
	}
	defer ours.close()
	theirs, err := t.byHand()
	if err != nil {
		return c, 0, err
	}
	defer theirs.close()
	name, other := newName("hot"), newName("hot")
	c, err = compare(e.pairs,
		func() (float64, error) { return throughput(ours, crowd, e.window, onOne(name)) },
		func() (float64, error) { return throughput(theirs, 1, e.window, onOne(other)) })
	return c, ours.pool.peak.Load(), err
}

// foreignWaits returns how long a session of another pool waited for a lock
// that a crowd with hand-off uses, in seconds for each wait.
func (t target) foreignWaits(window time.Duration) (samples, error) {
	ours, err := t.locker(namedlock.WithHandOff(handOff))
	if err != nil {
		return nil, err
	}
	defer ours.close()
	foreign, err := t.prepared()
	if err != nil {
		return nil, err
	}
	defer foreign.close()

	name := newName("foreign")
	var (
		waits  samples
		failed error
		end    sync.WaitGroup
	)
	stop := make(chan struct{})
	end.Go(func() {
		for failed == nil {
			select {
			case <-stop:
				return
			case <-time.After(rand.N(5 * time.Millisecond)):
			}
			var took float64
			took, failed = perRun(1, func() error { return foreign.take(background, name) })
			if failed == nil {
				waits = append(waits, took)
				failed = foreign.give(background, name)
			}
		}
	})
	_, err = throughput(ours, crowd, window, onOne(name))
	close(stop)
	end.Wait()
	return waits, errors.Join(err, failed)
}

// overtaken returns how many callers were served after a caller that came
// later. The callers come to the lock one by one, on a Locker with hand-off.
func (t target) overtaken() (int, error) {
	ours, err := t.locker(namedlock.WithHandOff(handOff))
	if err != nil {
		return 0, err
	}
	defer ours.close()

	name := newName("order")
	first, err := ours.Acquire(background, name, patience)
	if err != nil {
		return 0, err
	}
	served := make(chan int, crowd)
	errs := make(chan error, crowd)
	for i := range crowd {
		go func() {
			errs <- ours.section(name, func() { served <- i })
		}()
		time.Sleep(2 * time.Millisecond) // by then it is in the queue
	}
	err = first.Release()
	for range crowd {
		err = errors.Join(err, <-errs)
	}
	if err != nil {
		return 0, err
	}
	overtaken, latest := 0, -1
	for range crowd {
		i := <-served
		if i < latest {
			overtaken++
		}
		latest = max(latest, i)
	}
	return overtaken, nil
}
