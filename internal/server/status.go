package server

// What the driver and database/sql have noted about a transaction, without a
// round trip: see peek.go.

// A txState is what is known of the transaction on a session.
type txState int

const (
	txUnseen txState = iota // nothing reports it
	txOpen                  // as of the last answer that the driver has read
	txOver                  // no transaction is open
)

// The flags that the server sends with every answer but an error.
const (
	flagInTransaction = 1 << 0
	flagAutocommit    = 1 << 1
)

// seenTx returns what the driver's connection has noted of the transaction.
// Under autocommit=0 the flag reports nothing: the next statement begins
// another transaction. It is called in Raw.
func (c *Conn) seenTx(conn any) txState {
	c.know(conn)
	d := c.driver
	switch {
	case d == nil || d.status == nil || *d.status&flagAutocommit == 0:
		return txUnseen
	case *d.status&flagInTransaction == 0:
		return txOver
	}
	return txOpen
}

// noteTx keeps what seenTx returns for the time when the connection is closed.
func (c *Conn) noteTx(conn any) {
	if c.tx.Load() != nil && c.flagged.Load() {
		c.lastTx.Store(int32(c.seenTx(conn)))
	}
}

// noteEnd keeps whether the code under the lock has ended the transaction. It
// is called before the session's context ends, by which database/sql ends it,
// too; after that it does nothing.
func (c *Conn) noteEnd() {
	if tx := c.tx.Load(); tx != nil && isDone(tx) && c.ctx.Err() == nil { // in this order: the end of the context is followed by that
		c.endedByCode.Store(true)
	}
}
