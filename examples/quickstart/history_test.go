package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// replay makes a history of lines like "1 enters", one millisecond after the
// other.
func replay(lines ...string) *history {
	h := new(history)
	for i, line := range lines {
		at := time.Duration(i+1) * time.Millisecond
		worker := int(line[0] - '1')
		switch line[2:] {
		case "waits":
			h.wait(worker, at)
		case "enters":
			h.enter(worker, at)
		case "leaves":
			h.leave(worker, at)
		case "is killed":
			h.kills(worker, at)
		case "exits":
			h.exit(worker, at)
		default:
			panic(line)
		}
	}
	return h
}

func TestVerdict(t *testing.T) {
	for _, test := range []struct {
		name     string
		history  *history
		overlaps int
		verdict  string // "" for none
	}{
		{
			name: "one after the other",
			history: replay("1 waits", "2 waits", "1 enters", "1 leaves", "2 enters", "2 is killed",
				"1 waits", "1 enters", "2 exits", "1 leaves", "1 exits"),
		},
		{
			name:     "enter before leave",
			history:  replay("1 enters", "2 enters", "1 leaves", "2 leaves"),
			overlaps: 1,
			verdict:  "overlaps: 1; in the first, worker 2 entered at 0.00 s while worker 1 was inside",
		},
		{
			name:     "one inside another",
			history:  replay("1 enters", "2 enters", "2 leaves", "3 enters", "3 leaves", "1 leaves"),
			overlaps: 2,
			verdict:  "overlaps: 2",
		},
		{
			name:     "three at once",
			history:  replay("1 enters", "2 enters", "3 enters"),
			overlaps: 3,
			verdict:  "overlaps: 3",
		},
		{
			name:     "overlap of the kill's next",
			history:  replay("1 enters", "1 leaves", "1 enters", "1 is killed", "2 enters", "3 enters"),
			overlaps: 1,
			verdict:  "overlaps: 1",
		},
		{
			name:     "one that exits inside is out only then",
			history:  replay("1 enters", "2 enters", "1 exits", "3 enters"),
			overlaps: 2,
			verdict:  "overlaps: 2",
		},
		{
			name:    "nothing",
			history: replay("1 waits", "2 waits"),
			verdict: "no section ran to its end",
		},
		{
			name:    "nobody killed",
			history: replay("1 enters", "1 leaves"),
			verdict: "no worker held the lock",
		},
		{
			name:    "dead man's lock",
			history: replay("1 enters", "1 leaves", "2 enters", "2 is killed", "1 waits", "2 exits", "1 exits"),
			verdict: "did not move on",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			assert.Len(t, test.history.overlaps, test.overlaps)
			err := test.history.verdict(false)
			if test.verdict == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, test.verdict)
			}
			if err := test.history.verdict(true); test.overlaps > 0 {
				assert.Error(t, err, "an early end excuses no overlap")
			} else {
				assert.NoError(t, err)
			}
		})
	}
}

func TestSummary(t *testing.T) {
	h := replay("1 waits", "1 enters", "2 waits", "1 leaves", "2 enters", "3 waits", "2 is killed", "3 enters",
		"3 leaves", "1 waits", "1 enters", "3 waits", "1 leaves", "3 enters", "3 leaves")
	var out strings.Builder
	h.summarize(&out, server{addr: "db:3306", version: "9.7.4"})
	assert.Equal(t, `
runs           4 (worker 1: 2, worker 2: 0, worker 3: 2)
overlaps       0
longest wait   0.00 s
killed         worker 2 while it held the lock; worker 3 had it 1.0 ms later
server         db:3306 (VERSION() 9.7.4)
`, out.String())

	assert.Equal(t, 2*time.Millisecond, h.waited)
	unserved := replay("1 waits", "2 waits", "2 enters", "2 leaves", "1 exits")
	assert.Equal(t, 4*time.Millisecond, unserved.waited, "a wait in vain counts")
}
