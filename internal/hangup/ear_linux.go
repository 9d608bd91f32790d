package hangup

import (
	"os"
	"sync"
	"syscall"
	"time"
)

// An ear is an epoll instance of its own, on whose descriptor a goroutine waits as on
// any other. It asks for the end of the stream alone (EPOLLRDHUP), so that answers to
// statements wake nobody. The kernel forgets a socket that is closed on this side.
type ear struct {
	fd   int
	file *os.File // of fd
	raw  syscall.RawConn
	work sync.WaitGroup
}

func newEar(told func(id int32)) (*ear, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// A descriptor that does not block is one that the runtime waits on.
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	e := &ear{fd: fd, file: os.NewFile(uintptr(fd), "epoll")}
	if e.raw, err = e.file.SyscallConn(); err == nil {
		err = e.file.SetReadDeadline(time.Time{}) // fails if the runtime does not wait on it
	}
	if err != nil {
		_ = e.file.Close()
		return nil, err
	}
	e.work.Go(func() { e.listen(told) })
	return e, nil
}

// listen ends when the ear is closed.
func (e *ear) listen(told func(id int32)) {
	var events [16]syscall.EpollEvent
	for {
		var n int
		err := e.raw.Read(func(fd uintptr) (done bool) {
			n, _ = syscall.EpollWait(int(fd), events[:], 0)
			return n > 0
		})
		if err != nil {
			return
		}
		for _, event := range events[:n] {
			told(event.Fd)
		}
	}
}

func (e *ear) add(socket syscall.RawConn, id int32) error {
	// EPOLLHUP and EPOLLERR are always told. Once is enough.
	event := syscall.EpollEvent{Events: syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: id}
	var failed error
	err := socket.Control(func(fd uintptr) {
		failed = syscall.EpollCtl(e.fd, syscall.EPOLL_CTL_ADD, int(fd), &event)
		if failed == syscall.EEXIST { // it was let go of where nobody could say so
			failed = syscall.EpollCtl(e.fd, syscall.EPOLL_CTL_MOD, int(fd), &event)
		}
	})
	if err == nil {
		err = os.NewSyscallError("epoll_ctl", failed)
	}
	return err
}

func (e *ear) remove(socket syscall.RawConn) {
	_ = socket.Control(func(fd uintptr) {
		_ = syscall.EpollCtl(e.fd, syscall.EPOLL_CTL_DEL, int(fd), nil)
	})
}

func (e *ear) close() {
	_ = e.file.Close()
	e.work.Wait()
}
