// Package notify writes the log where its handler, code of the user's, can do
// no harm: one line after the other, in a goroutine that no lock waits for.
//
// A Notifier has a goroutine only while there is something to call. It is owned
// by whoever calls Drain, which waits for its end, but only for so long: a
// user's function may never return. A function that ends its goroutine
// (runtime.Goexit) has the next go on in another.
//
// Notifier.mu guards the queue of calls. No call is made under it, and it comes
// last: Tell may be called under any mutex.
package notify
