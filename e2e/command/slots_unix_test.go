//go:build unix

package command

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// -slots runs at most that many commands at a time, each with a number of its
// own.
func TestRun_Slots(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		const command = `echo "slot $NAMEDLOCK_SLOT of $NAMEDLOCK_NAME"; while [ ! -e end ]; do sleep 0.05; done`
		dir := t.TempDir()
		in := func(args ...string) *process {
			return b.start(append(args, "--", "sh", "-c", "cd "+dir+" && "+command)...)
		}
		first := in("run", "-slots", "2", "x")
		b.until(func() bool { return first.stdout.String() == "slot 0 of x#0\n" }, "the first runs")
		second := in("run", "-slots", "2", "x")
		b.until(func() bool { return second.stdout.String() == "slot 1 of x#1\n" }, "the second runs")
		p := b.start("run", "-slots", "2", "-timeout", "0", "x", "--", "true")
		assert.Equal(t, 75, p.code())
		assert.True(t, strings.HasPrefix(p.stderr.String(), "namedlock: busy: no free slot (of 2): x#0: held by connection "), p.stderr.String())
		assert.Equal(t, 0, b.start("holder", "x#1").code())
		assert.Equal(t, 0, b.start("run", "-timeout", "0", "x", "--", "true").code(), "the lock of the name itself is another")

		third := in("run", "-slots", "2", "x")
		b.until(func() bool { return b.holder("x#gate") != 0 }, "the third waits")
		b.lose("x#1")
		assert.Equal(t, 70, second.code())
		b.until(func() bool { return third.stdout.String() == "slot 1 of x#1\n" }, "the third runs")
		assert.Equal(t, 0, b.start("run", "y", "--", "touch", dir+"/end").code())
		assert.Equal(t, 0, first.code())
		assert.Equal(t, 0, third.code())
		assert.Zero(t, b.holder("x#0"))
	})
}

func TestRun_SlotsArguments(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		for says, args := range map[string][]string{
			`invalid value "0" for flag -slots: a number of slots is 1 to 1000`: {"-slots", "0", "x", "--", "true"},
			"-slots takes exactly one lock name, got 2":                         {"-slots", "2", "x", "y", "--", "true"},
			"at most 59 are allowed":                                            {"-slots", "2", strings.Repeat("x", 60), "--", "true"},
			"process id ":                                                       {"-slots", "2", "x", "--", "sh", "-c", `"$0" run -slots 3 x -- true`, binary},
		} {
			p := b.start(append([]string{"run"}, args...)...)
			assert.Equal(t, 64, p.code(), "%q", args)
			assert.Contains(t, p.stderr.String(), says, "%q", args)
		}
	})
}
