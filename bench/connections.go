package main

import (
	"context"
	"sync"
	"time"
)

// connectionCurves measures the number of connections against the number of
// goroutines that wait for one name.
func (t target) connectionCurves(e effort) ([]curve, error) {
	ours, byHand := curve{name: "namedlock"}, curve{name: "by hand"}
	for _, n := range []int{1, 3, 10, 30, 100, 300, 1000} {
		if n > e.waiters {
			break
		}
		w, err := t.wait(n, 1)
		if err != nil {
			return nil, err
		}
		ours.x, ours.y = append(ours.x, float64(n)), append(ours.y, float64(w.locker.pool.open.Load()))
		w.close()

		open, err := t.waitByHand(n)
		if err != nil {
			return nil, err
		}
		byHand.x, byHand.y = append(byHand.x, float64(n)), append(byHand.y, open)
	}
	return []curve{byHand, ours}, nil
}

// waitByHand returns how many connections n goroutines have open while they
// wait with GET_LOCK by hand.
func (t target) waitByHand(n int) (float64, error) {
	holder, err := t.prepared()
	if err != nil {
		return 0, err
	}
	defer holder.close()
	name := newName("by-hand")
	if err := holder.take(background, name); err != nil {
		return 0, err
	}
	p, err := t.connect(t.Addr())
	if err != nil {
		return 0, err
	}
	defer p.Close()

	ctx, cancel := context.WithCancel(background)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	for range n {
		all.Go(func() {
			conn, err := p.Conn(ctx)
			if err != nil {
				return // the loop below reports the missing waiter, by its time limit
			}
			defer conn.Close()
			_ = one(conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?)", name, patience.Seconds()))
		})
	}
	const most = 10 * time.Second
	for start := time.Now(); time.Since(start) < most; time.Sleep(20 * time.Millisecond) {
		if blocked, err := holder.blocked(); err != nil || blocked >= n {
			return float64(p.open.Load()), err
		}
	}
	return float64(p.open.Load()), nil
}
