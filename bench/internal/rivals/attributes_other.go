//go:build !linux

package rivals

import (
	"errors"
	"os/user"
	"syscall"
)

// attributes: elsewhere a server keeps this process's user, and outlives it if
// it is killed.
func attributes(as *user.User, _ syscall.Signal) (*syscall.SysProcAttr, error) {
	if as != nil {
		return nil, errors.New("PostgreSQL does not run as root: run this as another user")
	}
	return nil, nil
}
