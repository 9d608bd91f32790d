//go:build !linux

package hangup

import (
	"errors"
	"syscall"
	"time"
)

type ear struct{}

func newEar() (*ear, error) { return nil, errors.ErrUnsupported }

func (*ear) wait(time.Duration, <-chan struct{}) []int32 { return nil }
func (*ear) wake()                                       {}
func (*ear) add(syscall.RawConn, int32) error            { return errors.ErrUnsupported }
func (*ear) remove(syscall.RawConn)                      {}
func (*ear) close()                                      {}
