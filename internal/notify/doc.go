// Package notify calls the log's handler, which is code of the user, in a
// goroutine of its own, one line after the other. No lock waits for it.
//
// A Notifier has a goroutine only while calls are pending. Its owner calls
// Drain, which waits for the end of the goroutine, but not longer than a limit:
// a user's function may never return. If a function ends the goroutine
// (runtime.Goexit), the following calls run in a new goroutine.
//
// Notifier.mu guards the queue of calls. No call is made under it, and it is
// the last in the order of mutexes: Tell may be called under any mutex.
package notify
