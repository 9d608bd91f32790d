//go:build unix

package main

import (
	"flag"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// After which end of its command lead runs it again.
func TestIsLast(t *testing.T) {
	const hup, intr, term = syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM
	for _, c := range []struct {
		asked          syscall.Signal
		code           int
		lost, terminal bool
		last           bool
	}{
		{code: 0, last: true},
		{code: 0, lost: true},
		{code: 3},
		{code: 143}, // by another process
		{asked: term, code: 143, last: true},
		{asked: term, code: 7, lost: true, last: true},
		{asked: intr, code: 0, lost: true, last: true},
		{asked: hup, code: 129, last: true},
		{asked: hup, code: 3},
		{asked: hup, code: 3, terminal: true, last: true},
		{code: 130},
		{code: 130, terminal: true, last: true},             // Ctrl-C
		{code: 130, terminal: true, lost: true, last: true}, // in the grace after a loss
		{code: 129, terminal: true, last: true},             // the terminal has gone
		{code: 143, terminal: true, lost: true},
	} {
		k := &keeper{asked: c.asked, interactive: c.terminal}
		if c.terminal {
			k.term.file = os.Stdin
		}
		assert.Equal(t, c.last, k.isLast(c.code, c.lost), "%+v", c)
	}
}

// The help and the completion of both shells know every flag of every command,
// and have none that it does not know.
func TestFlagsAreKnown(t *testing.T) {
	known := map[string]*flag.FlagSet{"run": (&job{}).flags("run"), "lead": (&job{}).flags("lead")}
	for _, verb := range []string{"held", "holder", "list", "check", "completion"} {
		known[verb] = flag.NewFlagSet(verb, flag.ContinueOnError)
		(&invocation{}).define(verb, known[verb])
	}
	require.Len(t, verbs, len(known))
	for name, flags := range known {
		assert.Contains(t, usage, "\n  "+name+" ")
		help := helpOf(name)
		assert.Contains(t, help, "usage: namedlock "+name+" ")
		assert.Contains(t, help, "Example:\n")
		_, exits, _ := strings.Cut(help, "\nExit codes:\n")
		v := verbs[slices.IndexFunc(verbs, func(v verb) bool { return v.name == name })]
		assert.Equal(t, len(strings.Fields(v.exits)), strings.Count(exits, "\n"), help)
		assert.Contains(t, completionZsh, "\t\t\t'"+name+":", "zsh")
		_, bash, _ := strings.Cut(completionBash, "\tcase ${COMP_WORDS[1]} in")
		for line := range strings.Lines(bash) {
			if words, _, _ := strings.Cut(line, ")"); strings.Contains(" "+strings.TrimSpace(words)+" ", " "+name+" ") {
				bash = "-dsn -defaults-file " + line
				break
			}
		}
		n := 0
		flags.VisitAll(func(f *flag.Flag) {
			n++
			assert.Contains(t, usage, "\n  -"+f.Name+" ", "%s -%s", name, f.Name)
			assert.Contains(t, help, "\n  -"+f.Name+" ", "%s -%s", name, f.Name)
			assert.Contains(t, completionZsh, "'-"+f.Name+"[", "%s -%s", name, f.Name)
			assert.Contains(t, bash, "-"+f.Name, "%s -%s", name, f.Name)
		})
		assert.Equal(t, n, strings.Count(help, "\n  -"), "%s: %s", name, help)
		for line := range strings.Lines(help) {
			assert.LessOrEqual(t, len([]rune(line)), 96, "%s: %s", name, line)
		}
	}
}
