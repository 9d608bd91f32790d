//go:build !linux

package rivals

import (
	"errors"
	"os/user"
	"syscall"
)

// attributes returns nil: on other systems a server runs as this process's
// user, and survives if this process is killed.
func attributes(as *user.User, _ syscall.Signal) (*syscall.SysProcAttr, error) {
	if as != nil {
		return nil, errors.New("PostgreSQL does not run as root: run this as another user")
	}
	return nil, nil
}
