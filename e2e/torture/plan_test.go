package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// A seed is a schedule: the faults, their times and their durations do not
// depend on anything else.
func TestPlanIsAFunctionOfTheSeed(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for round := range 100 {
		faults := plan(7, round)
		assert.Equal(t, faults, plan(7, round))
		if round%5 == 4 {
			assert.Empty(t, faults)
			continue
		}
		assert.NotEqual(t, faults, plan(8, round))
		for i, f := range faults {
			seen[f.Kind] = true
			assert.LessOrEqual(t, f.At, roundTime)
			if i > 0 {
				assert.LessOrEqual(t, faults[i-1].At, f.At)
			}
		}
	}
	for _, k := range kinds {
		assert.True(t, seen[k.name], k.name)
	}
}
