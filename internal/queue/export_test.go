package queue

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-namedlock/namedlock/internal/pool"
)

// For the test with slots, whose package imports this one.

func (q *Queue) Pool() *pool.Pool { return q.pool }

// AtRest checks that nothing is under way, and nothing is left.
func (q *Queue) AtRest(t *testing.T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	assert.Zero(t, q.active)
	assert.Empty(t, q.lines)
	assert.Empty(t, q.nested)
	assert.Zero(t, q.waiting)
	assert.Zero(t, q.polling)
}
