package main

import (
	"bufio"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-namedlock/namedlock/e2e/internal/history"
	"github.com/go-sql-driver/mysql"
)

// workerJob is the environment variable that makes this program a worker. It
// contains a job as JSON.
const workerJob = "NAMEDLOCK_TORTURE_WORKER"

// A job has the parameters of a worker.
type job struct {
	Name       string
	Seed       uint64
	DSN        string // of the server, for sessions that may be killed
	FarDSN     string // the same, through the network
	Network    string
	WitnessDSN string // for sessions that must not be killed
	Folder     string // for the files of its events
	Round      int
}

// An order is a line that the director sends to a worker.
type order struct {
	Do   string
	Pick int
	Nth  int
	Text string
	How  string
	For  time.Duration
}

const (
	doWork = "work" // round Nth
	doRest = "rest" // start no more calls, and answer when all calls have returned
	doEnd  = "end"  // close everything, then answer
)

// The answers of a worker.
const (
	isReady   = "ready"
	isResting = "resting"
	hasEnded  = "ended"
)

// A worker is a process that uses locks in every way, until it is told to stop
// or killed.
type worker struct {
	name    string
	job     job
	record  *history.Recorder
	witness *sql.DB
	slots   []*slot
	calls   atomic.Int64
	heap    uint64 // in use at its first rest

	working sync.WaitGroup
	round   chan struct{} // closed when the round is over
}

// work is the main function of a worker.
func work(description string) error {
	w := &worker{}
	if err := json.Unmarshal([]byte(description), &w.job); err != nil {
		return err
	}
	w.name = w.job.Name
	debug.SetTraceback("all")
	var err error
	if w.record, err = history.Record(historyFile(w.job.Folder, w.name, w.job.Round), w.name); err != nil {
		return err
	}
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { w.record.Watch(stop) })
	goroutines := runtime.NumGoroutine()

	cfg, err := mysql.ParseDSN(w.job.WitnessDSN)
	if err != nil {
		return err
	}
	cfg.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return err
	}
	w.witness = sql.OpenDB(connector)
	w.witness.SetMaxOpenConns(4)
	w.witness.SetMaxIdleConns(4)
	for _, s := range setups {
		w.slots = append(w.slots, &slot{worker: w, setup: s})
	}
	fmt.Println(isReady)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		switch o.Do {
		case doWork:
			if err := w.record.GoOn(historyFile(w.job.Folder, w.name, o.Nth)); err != nil {
				return err
			}
			w.begin()
		case doRest:
			w.rest()
			fmt.Println(isResting)
		case doEnd:
			w.end(goroutines)
			fmt.Println(hasEnded)
		default:
			w.suffer(o)
		}
	}
	close(stop)
	watch.Wait()
	return w.record.Close()
}

// begin starts a round: the callers of every slot.
func (w *worker) begin() {
	round := make(chan struct{})
	w.round = round
	for i, s := range w.slots {
		for j := range s.setup.callers {
			c := &caller{worker: w, slot: s, rand: rand.New(rand.NewPCG(w.job.Seed, uint64(w.calls.Add(1)<<16)+uint64(i<<8+j)))}
			w.working.Go(func() { c.loop(round) })
		}
	}
}

// rest ends the round, and undoes its faults.
func (w *worker) rest() {
	close(w.round)
	w.working.Wait()
	for _, s := range w.slots {
		s.closing.Wait()
		if l := s.current; l != nil {
			l.resetPool()
			if l.flaky != nil {
				l.flaky.fail(0, "", "")
			}
		}
	}
	if w.heap == 0 && w.calls.Load() > 1000 {
		w.heap = heapInUse()
	}
}

// mostGrowth is the largest growth of the heap in use from the worker's first
// rest to its end.
const mostGrowth = 8 << 20

// end closes everything, and checks that nothing is left.
func (w *worker) end(goroutines int) {
	if grown := int64(heapInUse()) - int64(w.heap); w.heap > 0 && grown > mostGrowth {
		w.flaw("nothing leaks", "the heap has grown by %d bytes over %d calls", grown, w.calls.Load())
	}
	for _, s := range w.slots {
		s.replace(s.current)
		s.closing.Wait()
	}
	_ = w.witness.Close() // a connection may be broken
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		n := runtime.NumGoroutine()
		if n <= goroutines {
			return
		}
		if time.Now().After(end) {
			stacks := make([]byte, 64<<10)
			w.flaw("nothing leaks", "%d goroutines instead of %d:\n%s", n, goroutines, stacks[:runtime.Stack(stacks, true)])
			return
		}
	}
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// suffer makes a fault in this process happen.
func (w *worker) suffer(o order) {
	var fit []*slot
	for _, s := range w.slots {
		if s.setup.flaky || o.Do != history.Statement && o.Do != history.Vanish {
			fit = append(fit, s)
		}
	}
	s := fit[o.Pick%len(fit)]
	l, err := s.get()
	if err != nil {
		return // the server is away
	}
	switch o.Do {
	case history.Statement:
		l.flaky.fail(o.Nth, o.Text, o.How)
	case history.Vanish:
		w.working.Go(func() { l.flaky.forget(o.Pick, time.Now().Add(300*time.Millisecond)) })
	case history.Pool:
		if o.Nth > 0 {
			l.db.SetMaxOpenConns(o.Nth)
		} else {
			l.db.SetConnMaxLifetime(o.For)
		}
	case history.CloseAll:
		s.replace(l)
	}
}

// flaw records a violation that is detected at once.
func (w *worker) flaw(promise, format string, args ...any) {
	w.record.Note(history.Event{Kind: history.EventFlaw, Promise: promise, Error: fmt.Sprintf(format, args...)})
}
