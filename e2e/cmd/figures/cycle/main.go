// Command cycle runs uncontended WithLocks against the in-memory server and
// writes the counters of the blocks that each of them ran. Command figures
// builds it with -cover -covermode=atomic and reads the counters.
//
//	cycle FOLDER CYCLES
//
// The first three cycles open the session and prepare its statements. They are
// not measured.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/coverage"
	"strconv"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/internal/memserver"
)

const warmUp = 3

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cycle:", err)
		os.Exit(1)
	}
}

func run(args []string) (err error) {
	if len(args) != 2 {
		return errors.New("usage: cycle FOLDER CYCLES")
	}
	cycles, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	db := memserver.New().Open()
	defer func() { err = errors.Join(err, db.Close()) }()
	locker, err := namedlock.Open(db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, locker.Close()) }()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for cycle := 1 - warmUp; cycle <= cycles; cycle++ {
		if err := coverage.ClearCounters(); err != nil {
			return err
		}
		err := locker.WithLock(ctx, "figures", time.Second, func(context.Context) error { return nil })
		if err != nil {
			return err
		}
		if cycle < 1 {
			continue
		}
		if err := write(filepath.Join(args[0], strconv.Itoa(cycle))); err != nil {
			return err
		}
	}
	return nil
}

// write writes the counters into a new folder.
func write(folder string) error {
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	return errors.Join(coverage.WriteMetaDir(folder), coverage.WriteCountersDir(folder))
}
