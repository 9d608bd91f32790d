package namedlock_test

import (
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	mdFence  = regexp.MustCompile("(?ms)^ *```.*?^ *```[ \t]*$")
	mdCode   = regexp.MustCompile("`[^`\n]*`")
	mdGo     = regexp.MustCompile("(?ms)^```go\n(.*?)^```")
	mdLink   = regexp.MustCompile(`\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)(?:\s+"([^"]*)")?\)`)
	ownPages = regexp.MustCompile(`https://github\.com/go-namedlock/namedlock/(?:blob|tree)/main/([^\s)"]+)`)
	pageName = regexp.MustCompile(`\b(?:docs/[A-Z]+|[a-z]+/README|[a-z]+/RESULTS|CHANGELOG|README)\.md\b`)
)

// filesOfTheRepository returns the paths of all files whose names end in ext.
func filesOfTheRepository(t *testing.T, ext string) (files []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata"):
			return fs.SkipDir
		case strings.HasSuffix(p, ext):
			files = append(files, filepath.ToSlash(p))
		}
		return nil
	}))
	require.NotEmpty(t, files)
	return files
}

func readPage(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}

// Each relative link of a page leads to a file or folder, and to a heading
// there, if it names one. So does each link to this repository's pages from
// anywhere.
func TestDocs_Links(t *testing.T) {
	anchors := make(map[string][]string)
	check := func(file, link, target string) {
		where, anchor, _ := strings.Cut(target, "#")
		if where == "" {
			where = file
		}
		if _, err := os.Stat(filepath.FromSlash(where)); !assert.NoError(t, err, "%s: %s", file, link) || anchor == "" {
			return
		}
		if strings.HasSuffix(where, ".md") {
			if anchors[where] == nil {
				anchors[where] = anchorsOf(t, where)
			}
			assert.Contains(t, anchors[where], anchor, "%s: %s", file, link)
		}
	}
	for _, file := range filesOfTheRepository(t, ".md") {
		text := mdCode.ReplaceAllString(mdFence.ReplaceAllString(readPage(t, file), ""), "")
		for _, link := range mdLink.FindAllStringSubmatch(text, -1) {
			target, err := url.PathUnescape(link[2])
			switch {
			case !assert.NoError(t, err, "%s: %s", file, link[0]), strings.Contains(target, "://"), strings.HasPrefix(target, "mailto:"):
				continue
			case !strings.HasPrefix(target, "#"):
				target = path.Join(path.Dir(file), target)
			}
			check(file, link[0], target)
		}
	}
	for _, ext := range []string{".md", ".go"} {
		for _, file := range filesOfTheRepository(t, ext) {
			for _, link := range ownPages.FindAllStringSubmatch(readPage(t, file), -1) {
				check(file, link[0], link[1])
			}
		}
	}
	for _, file := range filesOfTheRepository(t, ".go") {
		for _, page := range pageName.FindAllString(readPage(t, file), -1) {
			_, here := os.Stat(page)
			_, beside := os.Stat(path.Join(path.Dir(file), page))
			assert.True(t, here == nil || beside == nil, "%s names %s, which does not exist", file, page)
		}
	}
}

// notInAnchor is a character that GitHub leaves out of an anchor.
var notInAnchor = regexp.MustCompile(`[^\pL\pN_\- ]`)

// anchorsOf returns the anchors of a page's headings, as GitHub makes them.
func anchorsOf(t *testing.T, file string) (anchors []string) {
	t.Helper()
	seen := make(map[string]int)
	for line := range strings.Lines(mdFence.ReplaceAllString(readPage(t, file), "")) {
		title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
		if !ok || line[0] != '#' {
			continue
		}
		title = mdLink.ReplaceAllString(title, "$1")
		anchor := notInAnchor.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
		anchor = strings.ReplaceAll(anchor, " ", "-")
		n := seen[anchor]
		seen[anchor]++
		if n > 0 {
			anchor += "-" + string(rune('0'+n))
		}
		anchors = append(anchors, anchor)
	}
	return anchors
}

// The figures that pages quote are those of bench/RESULTS.md. A quote is a link
// whose text is a cell, and whose title names it: "section > row > column". See
// bench/README.md.
func TestDocs_Figures(t *testing.T) {
	cells := resultCells(t)
	quotes := 0
	for _, file := range filesOfTheRepository(t, ".md") {
		for _, link := range mdLink.FindAllStringSubmatch(mdFence.ReplaceAllString(readPage(t, file), ""), -1) {
			target, _, _ := strings.Cut(link[2], "#")
			if path.Join(path.Dir(file), target) != "bench/RESULTS.md" || !strings.ContainsAny(link[1], "0123456789") {
				continue
			}
			quotes++
			if cell, ok := cells[link[3]]; assert.True(t, ok, "%s: no cell, or several, for %s", file, link[0]) {
				assert.Equal(t, cell, link[1], "%s: %q", file, link[3])
			}
		}
	}
	assert.Greater(t, quotes, 5)
}

// resultCells returns the cells of the tables of bench/RESULTS.md by "section >
// row > column". A row whose first cell is not the only one of its section has
// the first cell of the nearest such row above in front. Those of which there
// are several for all that are left out.
func resultCells(t *testing.T) map[string]string {
	t.Helper()
	const results = "bench/RESULTS.md"
	type table struct {
		section string
		head    []string
		rows    [][]string
	}
	var tables []table
	section, within := "", false
	for line := range strings.Lines(readPage(t, results)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			section = strings.TrimSpace(strings.TrimLeft(line, "#"))
		}
		if !strings.HasPrefix(line, "|") {
			within = false
			continue
		}
		row := strings.Split(strings.Trim(line, "|"), "|")
		for i := range row {
			row[i] = strings.TrimSpace(row[i])
		}
		if !within {
			within = true
			tables = append(tables, table{section: section, head: row})
			continue
		}
		last := &tables[len(tables)-1]
		if strings.Trim(row[0], "-:") != "" {
			last.rows = append(last.rows, row)
		}
	}
	cells, count := make(map[string]string), make(map[string]int)
	for _, tab := range tables {
		label := func(row []string) string {
			if len(tab.head) > 1 && tab.head[1] == "server" {
				return row[0] + ", " + row[1]
			}
			return row[0]
		}
		labels := make(map[string]int)
		for _, row := range tab.rows {
			labels[label(row)]++
		}
		above := ""
		for _, row := range tab.rows {
			key := label(row)
			if labels[key] > 1 {
				key = above + ", " + key
			} else {
				above = key
			}
			for i := range min(len(row), len(tab.head)) {
				name := tab.section + " > " + key + " > " + tab.head[i]
				cells[name] = row[i]
				count[name]++
			}
		}
	}
	for name, n := range count {
		if n > 1 {
			delete(cells, name)
		}
	}
	require.NotEmpty(t, cells)
	return cells
}

// Each block of Go on a page is code that is compiled: its lines are, in this
// order, in a Go file of the repository. A line of three dots stands for what
// is left out. Code that is on a page alone is in docs_code_test.go.
func TestDocs_Code(t *testing.T) {
	var source strings.Builder
	for _, file := range filesOfTheRepository(t, ".go") {
		source.WriteString(withoutIndents(readPage(t, file)) + "\n")
	}
	compiled := source.String()
	for _, file := range filesOfTheRepository(t, ".md") {
		for _, block := range mdGo.FindAllStringSubmatch(readPage(t, file), -1) {
			for part := range strings.SplitSeq(withoutIndents(block[1]), "\n...\n") {
				part = strings.Trim(part, "\n")
				assert.True(t, strings.Contains(compiled, "\n"+part+"\n"), "%s: no Go file has this code:\n%s", file, part)
			}
		}
	}
}

// withoutIndents returns the lines of code without the white space around them.
func withoutIndents(code string) string {
	lines := strings.Split(code, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return "\n" + strings.Join(lines, "\n")
}

// symptom is a row of a table in docs/OPERATIONS.md that quotes errors.
var symptom = regexp.MustCompile(`(?m)^ *\| (.*?) \|`)

// quoted is a text in backticks.
var quoted = regexp.MustCompile("`([^`]+)`")

// TestDocs_ErrorTexts checks that the code contains the error texts by which
// a person on call finds the row of a table in docs/OPERATIONS.md.
func TestDocs_ErrorTexts(t *testing.T) {
	t.Parallel()
	var code strings.Builder
	for _, file := range filesOfTheRepository(t, ".go") {
		if !strings.HasSuffix(file, "_test.go") && (!strings.Contains(file, "/") || strings.HasPrefix(file, "internal/")) {
			code.WriteString(readPage(t, file))
		}
	}
	page := readPage(t, "docs/OPERATIONS.md")
	checked := 0
	for _, heading := range []string{"| you see |", "| the cause contains |"} {
		_, table, found := strings.Cut(page, heading)
		require.True(t, found, heading)
		table, _, _ = strings.Cut(table, "\n\n")
		for _, row := range symptom.FindAllStringSubmatch(table, -1) {
			for _, text := range quoted.FindAllStringSubmatch(row[1], -1) {
				words, _, _ := strings.Cut(text[1], "5s") // code inserts the timeout
				if strings.Contains(row[1], "error 1040") || !strings.Contains(words, " ") || strings.Contains(words, "…") {
					continue // a server's text, an identifier, a pattern
				}
				for part := range strings.SplitSeq(strings.TrimSpace(words), ": ") {
					checked++
					assert.True(t, strings.Contains(code.String(), part), "docs/OPERATIONS.md quotes %q, which no error contains", part)
				}
			}
		}
	}
	assert.Greater(t, checked, 20)
}
