package hangup

import (
	"os"
	"syscall"
	"time"
)

// An epoller is an epoll instance. The Go runtime waits on its descriptor as on
// any other. It asks only for the end of the stream (EPOLLRDHUP), so answers to
// statements do not wake it. The kernel removes a socket that is closed on this
// side.
type epoller struct {
	fd   int
	file *os.File // of fd
	raw  syscall.RawConn
}

func newEpoller() (*epoller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// The runtime waits on a descriptor that does not block.
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	e := &epoller{fd: fd, file: os.NewFile(uintptr(fd), "epoll")}
	if e.raw, err = e.file.SyscallConn(); err == nil {
		err = e.file.SetReadDeadline(time.Time{}) // fails if it does not
	}
	if err != nil {
		_ = e.file.Close()
		return nil, err
	}
	return e, nil
}

func (e *epoller) wait(d time.Duration, woken <-chan struct{}) (ids []int32) {
	if e.file.SetReadDeadline(time.Now().Add(d)) != nil {
		return nil // closed
	}
	select {
	case <-woken: // perhaps set before the deadline, which has replaced wake's
		return nil
	default: // a later wake moves the deadline
	}
	var events [16]syscall.EpollEvent
	_ = e.raw.Read(func(fd uintptr) (done bool) {
		n, _ := syscall.EpollWait(int(fd), events[:], 0)
		for _, event := range events[:max(n, 0)] {
			ids = append(ids, event.Fd)
		}
		return n > 0
	})
	return ids
}

func (e *epoller) wake() { _ = e.file.SetReadDeadline(time.Unix(1, 0)) }

func (e *epoller) add(socket int, id int32) error {
	// EPOLLHUP and EPOLLERR are always reported. Once is enough.
	event := syscall.EpollEvent{Events: syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: id}
	err := syscall.EpollCtl(e.fd, syscall.EPOLL_CTL_ADD, socket, &event)
	if err == syscall.EEXIST { // only counted as removed, by Remove(nil)
		err = syscall.EpollCtl(e.fd, syscall.EPOLL_CTL_MOD, socket, &event)
	}
	return os.NewSyscallError("epoll_ctl", err)
}

func (e *epoller) remove(socket int) { _ = syscall.EpollCtl(e.fd, syscall.EPOLL_CTL_DEL, socket, nil) }

func (e *epoller) close() { _ = e.file.Close() }
