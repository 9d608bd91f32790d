package notify

import (
	"context"
	"log/slog"

	"github.com/go-namedlock/namedlock/internal/printable"
)

// Logger returns a logger whose lines n hands to l's handler: the handler is
// code of the user's, and may block. Lines keep the time at which they were
// written.
func (n *Notifier) Logger(l *slog.Logger) *slog.Logger {
	if l.Handler() == slog.DiscardHandler {
		return l
	}
	return slog.New(handler{l.Handler(), n})
}

// A handler passes lines on later. It takes all of them: to ask the one inside
// whether it is enabled is for later, too, as is the text of an error, which
// may be of the user's code.
type handler struct {
	inner slog.Handler
	n     *Notifier
}

func (h handler) Enabled(context.Context, slog.Level) bool { return true }

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	r = r.Clone()
	h.n.Tell(func() {
		if h.inner.Enabled(ctx, r.Level) {
			_ = h.inner.Handle(ctx, shown(r)) // as slog.Logger does
		}
	})
	return nil
}

// shown is r without the control characters of what a server reports.
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
