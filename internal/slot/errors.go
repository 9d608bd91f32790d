package slot

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/names"
	"github.com/go-namedlock/namedlock/internal/queue"
	"github.com/go-namedlock/namedlock/internal/server"
)

// staleAfter is how old the last look may be that an error has its holder from.
const staleAfter = 2 * time.Second

// notNow reports whether err ends one statement, and not the call: the lock is
// held, or the turn on the session did not come within the bound.
func notNow(err error) bool {
	_, late := err.(*queue.Late)
	return late || errors.Is(err, fault.ErrTimeout)
}

// contextError is the error for the end of the call's context, or else of the
// gate's context, which has been lost then.
func (c *call) contextError() error {
	if c.ctx.Err() == nil {
		return fault.ErrLost
	}
	return &queue.Late{Err: queue.ContextError(c.ctx)}
}

// explain is err, of the gate or of a slot, as that of the call.
func (c *call) explain(err error) error {
	late, is := err.(*queue.Late)
	if !is {
		return err
	}
	holder := c.holder()
	if late.Holder != nil && names.Fold(late.Holder.Name) != names.Fold(names.Gate(c.name)) {
		holder = late.Holder
	}
	if errors.Is(late, fault.ErrTimeout) {
		return c.timedOut(holder)
	}
	return &queue.Late{Err: late.Err, Holder: holder}
}

// timedOut is the error of a call whose timeout has passed.
func (c *call) timedOut(holder *server.Holder) error {
	text := fmt.Sprintf("no free slot (of %d)", len(c.names))
	if c.timeout > 0 {
		text += " within " + queue.Within(c.timeout)
	}
	return &queue.Late{Err: fault.Because(fault.ErrTimeout, text, nil), Holder: holder}
}

// gone is the error for a call whose gate was lost.
func gone(loss error) error {
	if r := (*fault.Reason)(nil); errors.As(loss, &r) && r.Cause != nil {
		loss = r.Cause // the call has lost nothing that its caller knows of
	}
	return fault.Because(fault.ErrUnavailable, "lost the session while looking for a free slot", loss)
}

// holder is the holder of one of the call's slots, nil if it is not known. It
// is the one in this process that has held its slot for the longest time. If
// there is none, it is the one that the looks have shown for the longest time.
func (c *call) holder() *server.Holder {
	f := c.group
	f.slots.mu.Lock()
	defer f.slots.mu.Unlock()
	now, oldest := time.Now(), -1
	for i := range c.names {
		if g := f.held[i]; g != nil && (oldest < 0 || g.since.Before(f.held[oldest].since)) {
			oldest = i
		}
	}
	if oldest >= 0 {
		return &server.Holder{Name: c.names[oldest], Local: true, HeldFor: now.Sub(f.held[oldest].since)}
	}
	if now.Sub(f.looked) > staleAfter {
		return nil
	}
	for i := range c.names {
		if seen, ok := f.seen[i]; ok && (oldest < 0 || seen.since.Before(f.seen[oldest].since)) {
			oldest = i
		}
	}
	if oldest < 0 {
		return nil
	}
	return &server.Holder{Name: c.names[oldest], ConnectionID: uint64(f.seen[oldest].holder)}
}
