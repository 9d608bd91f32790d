package servers

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// attributes: a process group of its own keeps an interrupt at the terminal
// from the server, so that the tests end it in their own order.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// awaitStopped returns when every thread of a process that got SIGSTOP stands
// still: some go on for milliseconds, and may answer queries in that time.
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
