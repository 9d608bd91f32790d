package namedlock_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/locktest"
)

// forged is a text that a stranger would like to have in an error or a log
// line.
const forged, escaped = "billing\nlevel=INFO all is well\x1b[2K\u202e", `billing\nlevel=INFO all is well\x1b[2K\u202e`

func TestTextOfStrangersStaysOnItsLine(t *testing.T) {
	for _, h := range []namedlock.Holder{
		{ConnectionID: 42, User: forged},
		{ConnectionID: 42, User: "app", Host: forged},
		{ConnectionID: 42, Program: forged},
	} {
		assert.Contains(t, h.String(), escaped)
		assert.Contains(t, (&namedlock.Error{Op: namedlock.OpAcquire, Name: "x", Err: namedlock.ErrTimeout, Holder: &h}).Error(), ": held by "+h.String())
	}

	locks := locktest.New()
	defer locks.Close()
	locks.Fail(&mysql.MySQLError{Number: 1045, Message: forged})
	err := locks.WithLock(ctx, "report", 0, mustNotRun(t))
	require.ErrorIs(t, err, namedlock.ErrUnavailable)
	assert.Contains(t, err.Error(), escaped)
	assert.NotContains(t, err.Error(), "\n")
	var inside *mysql.MySQLError
	require.ErrorAs(t, err, &inside)
	assert.Equal(t, forged, inside.Message, "as it came")
}

// verbatim is a handler that writes its input unchanged.
type verbatim struct {
	slog.Handler
	mu   *sync.Mutex
	into *strings.Builder
	errs *[]error
}

func (h verbatim) Enabled(context.Context, slog.Level) bool { return true }

func (h verbatim) Handle(_ context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.Attrs(func(a slog.Attr) bool {
		h.into.WriteString(" " + a.Key + "=" + a.Value.String())
		if err, ok := a.Value.Any().(error); ok {
			*h.errs = append(*h.errs, err)
		}
		return true
	})
	return nil
}

func TestTextOfStrangersIsOneLineOfTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := verbatim{slog.DiscardHandler, new(sync.Mutex), new(strings.Builder), new([]error)}
		l := locktest.New(namedlock.WithLogger(slog.New(log)))
		ctx, cancel := context.WithCancel(t.Context())
		led := make(chan error, 1)
		go func() { led <- l.Lead(ctx, "re\nport", untilEnd) }()
		time.Sleep(time.Second)
		refused := errors.New(forged)
		l.Fail(refused)
		time.Sleep(time.Minute)
		cancel()
		<-led
		require.NoError(t, l.Close())
		assert.NotContains(t, log.into.String(), "\n")
		assert.NotContains(t, log.into.String(), "\x1b")
		assert.Contains(t, log.into.String(), escaped)
		assert.Contains(t, log.into.String(), `name=re\nport`)
		assert.ErrorIs(t, errors.Join(*log.errs...), refused, "the error in the log is still an error")
	})
}
