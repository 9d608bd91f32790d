//go:build !linux

package hangup

import (
	"errors"
	"time"
)

type epoller struct{}

func newEpoller() (*epoller, error) { return nil, errors.ErrUnsupported }

func (*epoller) wait(time.Duration, <-chan struct{}) []int32 { return nil }
func (*epoller) wake()                                       {}
func (*epoller) add(int, int32) error                        { return errors.ErrUnsupported }
func (*epoller) remove(int)                                  {}
func (*epoller) close()                                      {}
