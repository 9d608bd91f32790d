//go:build !linux

package hangup

import (
	"errors"
	"syscall"
)

type ear struct{}

func newEar(func(int32)) (*ear, error) { return nil, errors.ErrUnsupported }

func (*ear) add(syscall.RawConn, int32) error { return errors.ErrUnsupported }
func (*ear) remove(syscall.RawConn)           {}
func (*ear) close()                           {}
