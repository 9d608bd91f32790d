package main

import (
	"context"
	"time"
)

// contendedLine compares two ways of a lock: from one Locker to another, which
// are connected only through the server, and between two connections by hand. A
// Locker also asks, in the statement that waits, whether the server is still
// writable. The statements by hand do not.
func contendedLine(t target, e effort) ([]row, error) {
	var lockers [2]*locker
	var sessions [2]*prepared
	for i := range 2 {
		var err error
		if lockers[i], err = t.locker(); err != nil {
			return nil, err
		}
		defer lockers[i].close()
		if sessions[i], err = t.prepared(); err != nil {
			return nil, err
		}
		defer sessions[i].close()
	}
	name, other := newName("contended"), newName("contended")
	c, err := compare(e.pairs,
		func() (float64, error) {
			return medianOf(e.handovers, func() (float64, error) { return lockerToLocker(lockers, name) })
		},
		func() (float64, error) {
			return medianOf(e.handovers, func() (float64, error) { return sessionToSession(sessions, other) })
		})
	if err != nil {
		return nil, err
	}
	return []row{
		ratio("contended: from RELEASE in one Locker to fn running in another, to raw statements that do not ask whether the server is writable", c, duration, atMost(1.05, " ×")),
	}, nil
}

func medianOf(n int, measure func() (float64, error)) (float64, error) {
	var s samples
	for range n {
		x, err := measure()
		if err != nil {
			return 0, err
		}
		s = append(s, x)
	}
	return s.median(), nil
}

// settled is long enough for a waiter to reach the server's queue.
const settled = 3 * time.Millisecond

func lockerToLocker(lockers [2]*locker, name string) (float64, error) {
	lock, err := lockers[0].Acquire(background, name, patience)
	if err != nil {
		return 0, err
	}
	var running time.Time
	done := make(chan error)
	go func() {
		done <- lockers[1].WithLock(background, name, patience, func(context.Context) error {
			running = time.Now()
			return nil
		})
	}()
	time.Sleep(settled)
	start := time.Now()
	if err := lock.Release(); err != nil {
		return 0, err
	}
	err = <-done
	return running.Sub(start).Seconds(), err
}

func sessionToSession(sessions [2]*prepared, name string) (float64, error) {
	if err := sessions[0].take(background, name); err != nil {
		return 0, err
	}
	var running time.Time
	done := make(chan error)
	go func() {
		err := sessions[1].take(background, name)
		running = time.Now()
		if err == nil {
			err = sessions[1].give(background, name)
		}
		done <- err
	}()
	time.Sleep(settled)
	start := time.Now()
	if err := sessions[0].give(background, name); err != nil {
		return 0, err
	}
	err := <-done
	return running.Sub(start).Seconds(), err
}
