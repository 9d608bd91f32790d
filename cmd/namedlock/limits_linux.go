package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// The threads and the bytes of address space that this process and the keeper
// need in addition to those at their start, with a margin. A Go program that
// cannot get them crashes.
const (
	neededThreads = 24
	neededSpace   = 256 << 20
)

// roomToRun returns an error if a limit (ulimit -u, -v) is so low that this
// process or its keeper would crash.
func roomToRun() error {
	var space syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_AS, &space) == nil && space.Cur < 1<<62 {
		if used := addressSpace(); used > 0 && used+neededSpace > space.Cur {
			return fmt.Errorf("address space limit too low: %d KiB, namedlock needs %d KiB; raise ulimit -v", space.Cur>>10, (used+neededSpace)>>10)
		}
	}
	nproc := 6 // RLIMIT_NPROC
	if strings.HasPrefix(runtime.GOARCH, "mips") {
		nproc = 8
	}
	var threads syscall.Rlimit
	if os.Getuid() != 0 && syscall.Getrlimit(nproc, &threads) == nil && threads.Cur < 1<<62 { // root has no such limit
		if used := threadsOf(uint32(os.Getuid())); used+neededThreads > threads.Cur {
			return fmt.Errorf("process limit too low: the user has %d of %d, namedlock needs %d more; raise ulimit -u", used, threads.Cur, neededThreads)
		}
	}
	return nil
}

// addressSpace returns the bytes of address space of this process, 0 if
// unknown.
func addressSpace() uint64 {
	text, _ := os.ReadFile("/proc/self/statm")
	pages, _, _ := strings.Cut(string(text), " ")
	n, _ := strconv.ParseUint(pages, 10, 64)
	return n * uint64(os.Getpagesize())
}

// threadsOf is how many threads the user has, as far as /proc shows.
func threadsOf(uid uint32) (n uint64) {
	dir, err := os.Open("/proc")
	if err != nil {
		return 0
	}
	defer func() { _ = dir.Close() }()
	entries, _ := dir.Readdirnames(-1)
	for _, name := range entries {
		var stat syscall.Stat_t
		if name[0] >= '1' && name[0] <= '9' && syscall.Stat("/proc/"+name+"/task", &stat) == nil && stat.Uid == uid {
			n += max(uint64(stat.Nlink), 3) - 2 // a directory for each
		}
	}
	return n
}
