package recipes

import (
	"context"
	"database/sql"
	"fmt"
	"sync"

	"github.com/go-namedlock/namedlock"
)

// CreateTokens creates the table of the fencing tokens.
func CreateTokens(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS fencing_tokens (token BIGINT AUTO_INCREMENT PRIMARY KEY, job VARCHAR(64) NOT NULL)")
	return err
}

// Token returns the fencing token of a term: a number that is higher than those
// of all terms before it. Call it first in the term, before anything is sent to
// a [Store].
//
// Nothing is committed in a term that has lost its lock. So a caller that gets
// a token held the lock at that time, and later holders get higher tokens.
//
// Do not take the token on another connection, in code under WithLock. A holder
// that is paused before its INSERT, and has lost the lock when it continues,
// would get a higher number than its successor.
func Token(ctx context.Context, term *namedlock.Term, job string) (token int64, err error) {
	err = term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, "INSERT INTO fencing_tokens (job) VALUES (?)", job)
		if err != nil {
			return err
		}
		token, err = result.LastInsertId()
		return err
	})
	if err != nil {
		return 0, err
	}
	return token, nil
}

// A Store stands for a target outside the database: files, an API, a device. It
// refuses a deposed holder after its successor has written.
type Store struct {
	mu      sync.Mutex
	highest int64
	content string
}

// Write writes content, unless a higher token has been seen.
func (s *Store) Write(token int64, content string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if token < s.highest {
		return fmt.Errorf("token %d is stale: %d has been here", token, s.highest)
	}
	s.highest, s.content = token, content
	return nil
}
