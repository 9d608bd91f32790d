package servers

import (
	"errors"
	"os"
	"os/exec"
	"os/user"
	"runtime"
)

// A process is an instance that is a process of its own.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // the error of Wait; written before done is closed
}

// startProcess starts cmd so that, on Linux, it is killed when this process
// ends, however this process ends. If a server changes its user itself, the
// kernel drops that setting. Therefore the server is started as its final user.
//
// The kernel sends the signal when the thread that forked ends, not when the
// process ends. Therefore the goroutine keeps its thread until the child has
// ended.
func startProcess(cmd *exec.Cmd, as *user.User) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	cmd.SysProcAttr = attributes()
	if as != nil {
		if err := runAs(cmd, as); err != nil {
			return nil, err
		}
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) exited() <-chan struct{} { return p.done }

func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	if err == nil {
		<-p.done
	}
	return err
}
