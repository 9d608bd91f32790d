package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/go-namedlock/namedlock"
)

// lossLine kills sessions that hold up to a thousand locks, and measures when
// the contexts of those locks end. It also measures the processor time of the
// watch.
func lossLine(t target, e effort) ([]row, error) {
	losses, err := t.losses(e.kills, min(1000, e.held))
	if err != nil {
		return nil, err
	}
	var notice, beyond samples
	wrong := 0
	for _, l := range losses {
		notice = append(notice, 1000*l.notice)
		beyond = append(beyond, 1000*(l.notice-l.late))
		wrong += l.wrong
	}
	longest := 50.0 // as promised
	if runtime.GOOS == "linux" {
		longest = 5 // the kernel reports the end of a connection
	}
	most := count("loss: from KILL to the end of the last context, beyond a timer's lateness, the longest", samples{beyond.quantile(1)}, atMost(longest, " ms"))
	most.spread = fmt.Sprintf("median %s ms, of %d kills", number(beyond.median()), len(beyond))
	rows := []row{
		most.beside(number(notice.quantile(1)) + " ms with it"),
		count("contexts that should have ended and did not, or the other way round", samples{float64(wrong)}, atMost(0, "")),
	}
	watch, ticker, ok, err := t.watch(e)
	if err != nil || !ok {
		return rows, err
	}
	return append(rows, count("the watch over them, of a core", watch, atMost(1, " %")).
		beside(number(ticker.median())+" % a bare ticker")), nil
}

// A loss is the effect of one KILL on the locks.
type loss struct {
	// Seconds from before KILL until the last context of the session's locks
	// ended.
	notice float64
	late   float64 // lateness of a plain timer at the same time, in seconds
	wrong  int     // contexts that ended and should not have, or should have ended and did not
}

// losses holds n locks on a few sessions, kills one session, and acquires the
// lost locks again, as often as kills says.
func (t target) losses(kills, n int) ([]loss, error) {
	l, err := t.locker(namedlock.WithMaxSessions(fewSessions))
	if err != nil {
		return nil, err
	}
	defer l.close()
	killer, err := t.session()
	if err != nil {
		return nil, err
	}
	defer killer.close()

	names := make([]string, n)
	for i := range names {
		names[i] = newName("loss")
	}
	locks := make([]*namedlock.Lock, n)
	defer func() {
		for _, lock := range locks {
			if lock != nil {
				_ = lock.Release()
			}
		}
	}()
	if err := l.takeAll(locks, names); err != nil {
		return nil, err
	}
	var losses []loss
	for range kills {
		one, err := killOne(killer, locks, names)
		if err != nil {
			return nil, err
		}
		losses = append(losses, one)
		for i, lock := range locks {
			if lock.Context().Err() == nil {
				continue
			}
			if err := lock.Release(); !errors.Is(err, namedlock.ErrLost) {
				return nil, fmt.Errorf("release after a KILL: got %w, not ErrLost", err)
			}
			if err := l.takeAll(locks[i:i+1], names[i:i+1]); err != nil {
				return nil, err
			}
		}
	}
	return losses, nil
}

func killOne(killer *session, locks []*namedlock.Lock, names []string) (loss, error) {
	holders, err := killer.holders(names)
	if err != nil {
		return loss{}, err
	}
	victim := holders[rand.N(len(holders))]
	expected := 0
	for _, id := range holders {
		if id == victim {
			expected++
		}
	}

	// The watch checks the sockets at intervals. A kill comes at any moment
	// between two checks.
	time.Sleep(rand.N(25 * time.Millisecond))
	var mu sync.Mutex
	ended := make(map[int]time.Time)
	last := make(chan struct{})
	for i, lock := range locks {
		stop := context.AfterFunc(lock.Context(), func() {
			mu.Lock()
			defer mu.Unlock()
			ended[i] = time.Now()
			if len(ended) == expected {
				close(last)
			}
		})
		defer stop()
	}
	start := time.Now()
	late := make(chan float64, 1)
	const tick = 25 * time.Millisecond
	time.AfterFunc(tick, func() { late <- (time.Since(start) - tick).Seconds() })
	if _, err := killer.ExecContext(background, fmt.Sprintf("KILL %d", victim)); err != nil {
		return loss{}, err
	}
	select {
	case <-last:
	case <-time.After(2 * time.Second):
	}
	time.Sleep(50 * time.Millisecond) // for contexts that should not end

	mu.Lock()
	defer mu.Unlock()
	l := loss{late: <-late}
	for i, id := range holders {
		end, has := ended[i]
		if has != (id == victim) {
			l.wrong++
		}
		if has {
			l.notice = max(l.notice, end.Sub(start).Seconds())
		}
	}
	return l, nil
}

// holders returns the session that holds each lock, as the server reports it.
func (s *session) holders(names []string) ([]int64, error) {
	const most = 100 // names in a statement
	var holders []int64
	for len(names) > 0 {
		some := names[:min(most, len(names))]
		names = names[len(some):]
		args := make([]any, len(some))
		ids := make([]sql.NullInt64, len(some))
		into := make([]any, len(some))
		for i, name := range some {
			args[i], into[i] = name, &ids[i]
		}
		query := "SELECT " + strings.Repeat("IS_USED_LOCK(?), ", len(some)-1) + "IS_USED_LOCK(?)"
		if err := s.QueryRowContext(background, query, args...).Scan(into...); err != nil {
			return nil, err
		}
		for i, id := range ids {
			if !id.Valid {
				return nil, fmt.Errorf("%s is not held", some[i])
			}
			holders = append(holders, id.Int64)
		}
	}
	return holders, nil
}

// watch returns two shares of a core, in per cent. The first is the processor
// time of this process while it holds many locks and does nothing else. The
// second is that of a ticker with the pace of the watch. The time of the idle
// process is subtracted from both. Most of either is the time of waking up. ok
// is false if the system does not report processor time.
func (t target) watch(e effort) (watch, ticker samples, ok bool, err error) {
	if _, ok := cpuTime(); !ok {
		return nil, nil, false, nil
	}
	// No keep-alive runs in the window.
	l, err := t.locker(namedlock.WithMaxSessions(fewSessions), namedlock.WithLease(0), namedlock.WithKeepAlive(time.Hour))
	if err != nil {
		return nil, nil, false, err
	}
	defer l.close()
	names := make([]string, min(1000, e.held))
	for i := range names {
		names[i] = newName("watch")
	}
	locks := make([]*namedlock.Lock, len(names))

	used := func() float64 {
		runtime.GC() // no collection, or sweeping, falls into the window
		time.Sleep(100 * time.Millisecond)
		before, _ := cpuTime()
		start := time.Now()
		time.Sleep(e.quiet)
		after, _ := cpuTime()
		return 100 * (after - before).Seconds() / time.Since(start).Seconds()
	}
	for range e.longPairs {
		if err := l.takeAll(locks, names); err != nil {
			return nil, nil, false, err
		}
		holding := used()
		if err := freeAll(locks); err != nil {
			return nil, nil, false, err
		}
		idle := used()
		stop := tick()
		ticking := used()
		stop()
		watch, ticker = append(watch, holding-idle), append(ticker, ticking-idle)
	}
	return watch, ticker, true, nil
}

// tick wakes a goroutine as often as the watch is woken, until stop returns.
func tick() (stop func()) {
	ticker := time.NewTicker(25 * time.Millisecond)
	stopped, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ticker.C:
			case <-stopped:
				return
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(stopped)
		<-ended
	}
}
