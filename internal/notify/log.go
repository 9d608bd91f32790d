package notify

import (
	"context"
	"log/slog"

	"github.com/go-namedlock/namedlock/internal/printable"
)

// Logger returns a logger whose lines n passes to l's handler, which is code of
// the user and may block. Lines keep the time at which they were logged.
func (n *Notifier) Logger(l *slog.Logger) *slog.Logger {
	if l.Handler() == slog.DiscardHandler {
		return l
	}
	return slog.New(handler{l.Handler(), n})
}

// A handler passes lines on later. It accepts all lines. Calling Enabled of the
// inner handler, or Error of an error, could run code of the user. So both are
// called later.
type handler struct {
	inner slog.Handler
	n     *Notifier
}

func (h handler) Enabled(context.Context, slog.Level) bool { return true }

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	r = r.Clone()
	h.n.Tell(func() {
		if h.inner.Enabled(ctx, r.Level) {
			_ = h.inner.Handle(ctx, shown(r)) // the error is dropped, as slog.Logger does
		}
	})
	return nil
}

// shown returns r without the control characters of texts that a server
// reports.
func shown(r slog.Record) slog.Record {
	line := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		line.AddAttrs(printable.Attr(a))
		return true
	})
	return line
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.inner.WithAttrs(attrs), h.n}
}

func (h handler) WithGroup(name string) slog.Handler { return handler{h.inner.WithGroup(name), h.n} }
