//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"context"
	"errors"
	"log/slog"
	"syscall"
	"time"

	"github.com/go-namedlock/namedlock"
)

// The pause after a command that failed: it doubles from the first to the last, until the command has run for steady.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
	steady     = time.Minute
)

// lead keeps the command running for as long as this process leads, and stands for it again after a loss. A command that fails
// resigns: another machine may do better. lead returns when the command has succeeded, or was asked to end.
func (k *keeper) lead(ctx context.Context) (code int, err error) {
	var opts []namedlock.Option
	if !k.quiet { // an outage is to be seen in the journal, since lead goes on
		opts = append(opts, namedlock.WithLogger(slog.New(logLines{k.stderr, slog.LevelWarn, ""})))
	}
	locker, done, err := k.open(opts...)
	if err != nil {
		return 0, err
	}
	defer done()
	if err := locker.Check(ctx); codeOf(err) == exitDenied { // Lead would go on asking
		return 0, err
	}
	ran := false
	for pause := time.Duration(0); ; {
		over := false
		var began time.Time
		standing, stop := k.wait(ctx)
		err := locker.Lead(standing, k.names[0], func(ctx context.Context, _ *namedlock.Term) (err error) {
			began = time.Now()
			code, err = k.run(ctx, connection(ctx, locker, k.names[0]))
			if ran = ran || err == nil; ran && errors.As(err, new(startError)) { // it is being replaced by another version, say
				code, err = k.ending(err)
				k.complain("%v", err)
				return nil
			}
			if err == nil && k.isLast(code, ctx.Err() != nil) {
				over = true
				stop() // even if the lock is lost meanwhile
			}
			return err
		})
		stop()
		switch {
		case over:
			return code, nil
		case err != nil && context.Cause(standing) == errHalted:
			continue
		case err != nil:
			return 0, err
		}
		if time.Since(began) >= steady {
			pause = 0
		}
		pause = min(max(2*pause, firstPause), lastPause)
		k.complain("the command failed with exit code %d: stands for leader again in %v", code, pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// isLast reports whether a command that has ended with that code is not to run again. One that ended since the lock was lost is,
// unless it had been asked to end as well.
func (k *keeper) isLast(code int, lost bool) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	died := syscall.Signal(code - 128)
	switch {
	case k.asked == syscall.SIGINT, k.asked == syscall.SIGQUIT, k.asked == syscall.SIGTERM:
		return true
	case k.asked == syscall.SIGHUP && (died == syscall.SIGHUP || k.term.file != nil): // many take it for a wish to read their configuration again
		return true
	case k.interactive && (died == syscall.SIGINT || died == syscall.SIGQUIT || died == syscall.SIGHUP): // the terminal tells the command alone
		return true
	}
	return code == exitOK && !lost
}
