//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package servers

import (
	"os"
	"os/exec"
	"os/user"
	"syscall"
)

func (p *process) terminate() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
func (p *process) resume() error    { return p.cmd.Process.Signal(syscall.SIGCONT) }

func (p *process) pause() error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return awaitStopped(p.cmd.Process.Pid)
}

// lockFile locks f until it is closed, or fails at once.
func lockFile(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

func runAs(cmd *exec.Cmd, u *user.User) error {
	uid, gid, err := ids(u)
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return err
}

// shutdown ends listening on the socket. On Linux that works. Other systems
// return ENOTCONN, and free the port some milliseconds later.
func shutdown(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) }
