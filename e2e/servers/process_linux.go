package servers

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// attributes returns a process group of its own, so that an interrupt at the
// terminal does not reach the server. The tests end servers in their own order.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// awaitStopped returns when every thread of a process that got SIGSTOP has
// stopped. Some threads run on for milliseconds, and may answer queries in that
// time.
func awaitStopped(pid int) error {
	const most = 5 * time.Second
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for start := time.Now(); time.Since(start) < most; <-tick.C {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err != nil && err != unix.EINTR {
			return err
		}
		if info.Signo != 0 {
			return nil
		}
	}
	return fmt.Errorf("process %d has not stopped within %v", pid, most)
}
