//go:build !linux

package hangup

import (
	"errors"
	"syscall"
	"time"
)

type epoller struct{}

func newEpoller() (*epoller, error) { return nil, errors.ErrUnsupported }

func (*epoller) wait(time.Duration, <-chan struct{}) []int32 { return nil }
func (*epoller) wake()                                       {}
func (*epoller) add(syscall.RawConn, int32) error            { return errors.ErrUnsupported }
func (*epoller) remove(syscall.RawConn)                      {}
func (*epoller) close()                                      {}
