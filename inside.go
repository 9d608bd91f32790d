package namedlock

import (
	"context"
	"time"

	"github.com/go-namedlock/namedlock/internal/inside"
)

// These functions are for package locktest. Its users name locks as their code
// does. They ask which locks are held, without a call that hooks and Stats
// would count.
func init() {
	inside.Namespace = func(locker any) string { return locker.(*Locker).namespace }
	inside.HeldNames = func(locker any) []string { return locker.(*Locker).queue.HeldNames() }
	inside.OnSessionOpened = func(locker any, told func(time.Duration)) { locker.(*Locker).observer.onOpened = told }
	inside.Holds = func(ctx context.Context, locker any, name string) bool {
		l := locker.(*Locker)
		return l.queue.Held(ctx, l.namespace+name) != nil
	}
}
