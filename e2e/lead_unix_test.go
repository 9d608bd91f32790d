//go:build unix

package e2e

import (
	"syscall"

	"github.com/stretchr/testify/require"
)

func init() {
	deposed["SIGSTOP beyond the lease"] = func(c *candidates, leader tick) {
		p := c.of[leader.process()].Process
		require.NoError(c.t, p.Signal(syscall.SIGSTOP))
		c.t.Cleanup(func() { _ = p.Signal(syscall.SIGCONT) })
		k := c.next(leader)
		require.NoError(c.t, p.Signal(syscall.SIGCONT))
		require.NotEqual(c.t, leader.process(), k.process())
	}
}
