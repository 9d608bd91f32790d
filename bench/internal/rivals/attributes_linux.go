package rivals

import (
	"os/user"
	"strconv"
	"syscall"
)

// attributes returns how the system runs a server: as the given user, in its
// own process group, which an interrupt at the terminal does not reach. When
// this process ends, however that happens, the server gets the signal last.
func attributes(as *user.User, last syscall.Signal) (*syscall.SysProcAttr, error) {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: last}
	if as == nil {
		return a, nil
	}
	uid, gid, err := ids(as)
	if err != nil {
		return nil, err
	}
	a.Credential = &syscall.Credential{Uid: uid, Gid: gid}
	return a, nil
}

func ids(u *user.User) (uid, gid uint32, err error) {
	id, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return 0, 0, err
	}
	group, err := strconv.ParseUint(u.Gid, 10, 32)
	return uint32(id), uint32(group), err
}
