package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFigures(t *testing.T) {
	figures, err := measure("../../../")
	require.NoError(t, err)
	for _, f := range figures {
		t.Logf("%d (bound %d, goal %d): %s", f.now, f.bound, f.goal, f.what)
		assert.LessOrEqualf(t, f.now, f.bound, "%s: %q", f.what, f.parts)
	}
}

func TestPassed(t *testing.T) {
	assert.Equal(t, []string{"lock.go: *Locker.WithLock", "internal/queue/line.go: *line.joinLocked"}, passed(
		module+"/lock.go:35:\t\t*Locker.WithLock\t66.7%\n"+
			module+"/lock.go:48:\t\tboth\t0.0%\n"+
			cycle+"/main.go:31:\trun\t19.2%\n"+
			module+"/internal/queue/line.go:62:\t*line.joinLocked\t100.0%\n"+
			"total\t(statements)\t14.5%\n"))
}
