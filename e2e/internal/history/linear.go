package history

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// The second judge does not use sections. Acquire and release are operations on
// a mutex, and each took effect at some moment between its call and its return.
// There must be an order of these moments that a mutex allows. A lock that was
// lost was released by the server, at an unknown time.

type mutexOp struct {
	release bool
	who     int // number of the caller, from 1
}

// mutex has the holder's number as its state, or 0.
var mutex = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, _ any) (bool, any) {
		op := input.(mutexOp)
		if op.release {
			return state == op.who, 0
		}
		return state == 0, op.who
	},
}

// judging is the time limit for one name. The time for a history grows with the
// number of lost locks. For a history that no order explains it can grow
// without a bound.
const judging = 10 * time.Second

func (c *checker) linearizable() {
	for key, line := range c.byKey() {
		var ops []porcupine.Operation
		for i, s := range line {
			who := i + 1
			ops = append(ops, porcupine.Operation{Input: mutexOp{who: who}, Call: s.Called, Return: s.Begun})
			release := porcupine.Operation{Input: mutexOp{release: true, who: who}, Call: s.Called, Return: math.MaxInt64}
			if c.clean(s) {
				release.Call, release.Return = s.Ended, s.Returned
			}
			ops = append(ops, release)
		}
		c.verdict.Judged++
		switch porcupine.CheckOperationsTimeout(mutex, ops, c.judging) {
		case porcupine.Illegal:
			c.report("a name is a mutex", fmt.Sprintf("%q: no order of its acquires and releases explains what was seen", key), line[0].Begun)
		case porcupine.Unknown:
			c.verdict.Undecided = append(c.verdict.Undecided, key)
		}
	}
	slices.Sort(c.verdict.Undecided)
}
