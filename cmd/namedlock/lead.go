//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"syscall"
	"time"

	"github.com/go-namedlock/namedlock"
)

// The pause after a command that failed: it doubles from the first to the last,
// until the command has run for steady.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
	steady     = time.Minute
)

// lead keeps the command running while this process leads, and tries to lead
// again after a loss. If the command fails, the process resigns, so that
// another machine can lead. lead returns when the command has succeeded, or was
// asked to end.
func (k *keeper) lead(ctx context.Context) (code int, err error) {
	opts := []namedlock.Option{namedlock.WithHooks(namedlock.Hooks{Released: func(_ context.Context, e namedlock.Event) {
		if e.Err != nil {
			k.tellLoss("lost the lock: %s", oneLine(e.Err)) // found by its release
		}
	}})}
	if !k.quiet { // lead continues after an outage, so the journal has to show it
		opts = append(opts, namedlock.WithLogger(slog.New(logLines{k.stderr, slog.LevelWarn, ""})))
	}
	locker, done, err := k.open(opts...)
	if err != nil {
		return 0, err
	}
	defer done()
	k.stderr.spoken.Store(false)
	if err := k.reach(ctx, locker, namedlock.Forever, "cannot reach a writable server; retrying"); isMistake(err) {
		return 0, usageError{err} // Lead would retry
	} else if codeOf(err) == exitDenied {
		return 0, err
	}
	ran, terms := false, 0
	for pause := time.Duration(0); ; {
		over := false
		var began time.Time
		standing, stop := k.wait(ctx)
		err := locker.Lead(standing, k.names[0], func(ctx context.Context, term *namedlock.Term) (err error) {
			began, k.toldLoss = time.Now(), false
			id := connection(ctx, k.names[0], func(ctx context.Context, fn func(context.Context, *sql.Tx) error) error {
				return term.WithTx(ctx, nil, fn)
			})
			switch terms++; {
			case terms > 1:
				k.complain("leading again, connection %d", id)
			case k.stderr.spoken.Load(): // of an outage
				k.complain("leading, connection %d", id)
			}
			code, err = k.run(ctx, id)
			if ran = ran || err == nil; ran && errors.As(err, new(startError)) { // for example, its file is being replaced
				code, err = k.ending(err)
				k.complain("%v", err)
				return nil
			}
			if err == nil && k.isLast(code, ctx.Err() != nil) {
				over = true
				stop() // even if the lock is lost at this moment
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
		k.complain("the command failed with exit code %d; trying to lead again in %v", code, pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// isLast reports whether a command that ended with that code must not run
// again. After a loss of the lock the command runs again, unless a signal asked
// it to end.
func (k *keeper) isLast(code int, lost bool) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	died := syscall.Signal(code - 128)
	switch {
	case k.asked == syscall.SIGINT, k.asked == syscall.SIGQUIT, k.asked == syscall.SIGTERM:
		return true
	case k.asked == syscall.SIGHUP && (died == syscall.SIGHUP || k.term.file != nil): // many programs reload their configuration on it
		return true
	case k.interactive && (died == syscall.SIGINT || died == syscall.SIGQUIT || died == syscall.SIGHUP): // the terminal signals only the command
		return true
	}
	return code == exitOK && !lost
}
