package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// When the library changes, its mutants must be adapted, and keep the meaning
// of their names.
func TestEveryMutantApplies(t *testing.T) {
	t.Parallel()
	root, err := libraryRoot(t.Context())
	require.NoError(t, err)
	for _, m := range mutants {
		_, err := m.apply(root)
		assert.NoError(t, err, m.name)
	}
}
