package e2e

// The library's statements, as they must be sent to the server: see
// docs/STATEMENTS.md.
const (
	selectGetLock     = "SELECT GET_LOCK(?, ?)"
	selectReleaseLock = "SELECT RELEASE_LOCK(?)"
)

// Parts of them, by which a test recognizes a statement however it is sent.
const (
	getLock     = "GET_LOCK("
	releaseLock = "RELEASE_LOCK("
	isUsedLock  = "IS_USED_LOCK("
	version     = "VERSION()" // of the greeting
)
