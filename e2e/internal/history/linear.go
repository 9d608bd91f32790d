package history

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// A second judge, which knows nothing of sections: to acquire and to release
// are operations on a mutex, each of which took effect at some moment between
// its call and its return, and there must be an order of these moments that a
// mutex allows. A lock that was lost was released by somebody else, at a time
// that nobody knows.

type mutexOp struct {
	release bool
	who     int // from 1
}

// mutex has as its state who holds it, 0 for nobody.
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

// judging bounds the time for one name. The time that a history takes grows
// with the number of locks that were lost, and without a bound for a history
// that no order explains.
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
