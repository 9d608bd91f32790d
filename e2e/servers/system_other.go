//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package servers

import (
	"errors"
	"os"
	"os/exec"
	"os/user"
)

func (p *process) terminate() error { return p.kill() }
func (p *process) pause() error     { return errors.ErrUnsupported }
func (p *process) resume() error    { return errors.ErrUnsupported }

// lockFile always fails, so that no folder is ever taken for abandoned.
func lockFile(*os.File) error { return errors.ErrUnsupported }

func runAs(*exec.Cmd, *user.User) error { return errors.ErrUnsupported }

func shutdown(uintptr) {}
