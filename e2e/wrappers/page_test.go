package wrappers

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/modfile"
)

// The table of docs/GUIDE.md lists the wrappers that are tested, in the tested
// versions. Its function is the one in this package.
func TestGuide(t *testing.T) {
	page, err := os.ReadFile("../../docs/GUIDE.md")
	require.NoError(t, err)
	mod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	required, err := modfile.Parse("go.mod", mod, nil)
	require.NoError(t, err)
	var table strings.Builder
	for _, w := range known {
		how := "not needed"
		if w.unwrap != nil {
			how = "`" + w.said + "`"
		}
		for _, r := range required.Require {
			if r.Mod.Path == w.module {
				fmt.Fprintf(&table, "| %s | %s | %s |\n", w.module, r.Mod.Version, how)
			}
		}
	}
	assert.Contains(t, string(page), "| --- | --- | --- |\n"+table.String()+"\n")

	source, err := os.ReadFile("field.go")
	require.NoError(t, err)
	_, function, found := strings.Cut(string(source), "\n)\n\n")
	require.True(t, found)
	assert.Contains(t, string(page), "```go\n"+function+"```\n")
}
