package main

import (
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/go-namedlock/namedlock/e2e/internal/history"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
)

const (
	workers   = 3               // number of processes at a time
	roundTime = 3 * time.Second // time of work between two moments of rest
)

// A fault is one event that is injected. Pick selects its victim among the
// possible victims at the time. The victim is a matter of chance. The attempt
// is not.
type fault struct {
	Kind   string
	At     time.Duration // from the beginning of the round
	For    time.Duration // until it is undone
	Worker int           // for faults in, or of, a worker, or on its network
	Pick   int
	Nth    int    // of statements: the n-th from then on
	Text   string // for statements: contained in the statement
	How    string // for statements: see mishaps
	Value  time.Duration
}

func (f fault) String() string {
	s := fmt.Sprintf("%8.3fs %-12s worker %d, pick %2d", f.At.Seconds(), f.Kind, f.Worker, f.Pick)
	if f.For > 0 {
		s += fmt.Sprintf(", for %v", f.For)
	}
	if f.How != "" {
		s += fmt.Sprintf(", statement %d with %q: %s", f.Nth, f.Text, f.How)
	}
	if f.Value > 0 {
		s += fmt.Sprintf(", %v", f.Value)
	}
	return s
}

// A kind has the relative frequency of a fault, and a function that draws the
// rest of the fault.
type kind struct {
	name   string
	weight int
	draw   func(r *rand.Rand, f *fault)
}

var kinds = []kind{
	{history.Kill, 24, nil},
	{history.KillQuery, 10, nil},
	{history.Statement, 24, func(r *rand.Rand, f *fault) {
		f.Nth, f.Text, f.How = 1+r.IntN(4), statements[r.IntN(len(statements))], mishaps[r.IntN(len(mishaps))]
	}},
	{history.Vanish, 12, nil},
	{history.Cut, 3, lasting(20*time.Millisecond, 300*time.Millisecond)},
	{history.Stall, 3, lasting(100*time.Millisecond, 1500*time.Millisecond)},
	{history.Silence, 3, lasting(100*time.Millisecond, 3*time.Second)},
	{history.Slow, 3, func(r *rand.Rand, f *fault) {
		lasting(200*time.Millisecond, 1500*time.Millisecond)(r, f)
		f.Value = between(r, 5*time.Millisecond, 400*time.Millisecond).Round(time.Millisecond)
	}},
	{history.Crash, 1, lasting(50*time.Millisecond, 500*time.Millisecond)},
	{history.Freeze, 2, lasting(100*time.Millisecond, 2*time.Second)},
	{history.Idle, 2, func(r *rand.Rand, f *fault) { f.Value = time.Duration(1+r.IntN(3)) * time.Second }},
	{history.Limits, 2, func(r *rand.Rand, f *fault) {
		f.Value = between(r, 10*time.Millisecond, 500*time.Millisecond).Round(time.Millisecond)
	}},
	{history.KillWorker, 1, nil},
	{history.StopWorker, 2, lasting(50*time.Millisecond, 2500*time.Millisecond)},
	{history.Pool, 4, func(r *rand.Rand, f *fault) {
		if f.Nth = 2 + r.IntN(4); r.IntN(2) == 0 {
			f.Nth, f.Value = 0, between(r, 20*time.Millisecond, 500*time.Millisecond).Round(time.Millisecond)
		}
	}},
	{history.CloseAll, 8, nil},
}

// statements has texts that statements contain, for every position of a lock's
// life; "" is contained in all.
var statements = []string{"", locksql.Version, locksql.GetLock, "SELECT " + locksql.ReleaseLock, locksql.IsUsedLock, "wait_timeout ="}

func lasting(least, most time.Duration) func(*rand.Rand, *fault) {
	return func(r *rand.Rand, f *fault) { f.For = between(r, least, most).Round(time.Millisecond) }
}

func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)))
}

// plan returns the faults of one round, in order. It only depends on its
// arguments. Every fifth round has no faults, so that a violation in it has no
// excuse.
func plan(seed uint64, round int) []fault {
	if round%5 == 4 {
		return nil
	}
	r := rand.New(rand.NewPCG(seed, uint64(round)))
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	var faults []fault
	for range 8 + r.IntN(40) {
		f := fault{At: between(r, 0, roundTime).Round(time.Millisecond), Worker: r.IntN(workers), Pick: r.IntN(100)}
		at := r.IntN(total)
		for _, k := range kinds {
			if at -= k.weight; at < 0 {
				f.Kind = k.name
				if k.draw != nil {
					k.draw(r, &f)
				}
				break
			}
		}
		faults = append(faults, f)
	}
	slices.SortStableFunc(faults, func(a, b fault) int { return cmp.Compare(a.At, b.At) })
	// The last fault is at the last release of a round, where nothing hides its
	// effects.
	for w := range workers {
		for pick := range 2 {
			faults = append(faults, fault{Kind: history.Statement, At: roundTime, Worker: w, Pick: pick, Nth: 1, Text: statements[3], How: mishaps[r.IntN(3)]})
		}
	}
	return faults
}

// printPlan prints the faults of all rounds that fit into the time d.
func printPlan(w io.Writer, seed uint64, d time.Duration) {
	for round := range int(d / roundTime) {
		fmt.Fprintf(w, "round %d\n", round)
		for _, f := range plan(seed, round) {
			fmt.Fprintln(w, "\t", f)
		}
	}
}
