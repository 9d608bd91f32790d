package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A kind is the place that a text has.
type kind int

const (
	paragraph kind = 1 << iota // of Markdown
	heading                    // of Markdown
	cell                       // of a table in Markdown
	comment                    // in Go
	literal                    // a string in Go
)

// A text is a unit whose end is the end of a sentence, such as a paragraph. It
// is on one line, and its markup and code are left out.
type text struct {
	kind kind
	s    string
	// lines has the number of the line of each byte of s.
	lines []int
}

// A builder makes a text of several lines.
type builder struct {
	s     []byte
	lines []int
}

func (b *builder) add(s string, line int) {
	if len(b.s) > 0 {
		s = " " + s
	}
	for i := range len(s) {
		b.s = append(b.s, s[i])
		b.lines = append(b.lines, line)
	}
}

var (
	codeSpan = regexp.MustCompile("``[^`]+(?:`[^`]+)*``|`[^`]+`")
	link     = regexp.MustCompile(`\]\([^()\s]*(?:\([^()]*\)[^()\s]*)?\)|\]\[[^\]]*\]`)
	strong   = regexp.MustCompile(`\*\*|\[|\]`)
	tag      = regexp.MustCompile(`<[a-zA-Z/!][^>]*>`)
	address  = regexp.MustCompile(`https?://\S+`)
)

// end appends what was added to texts, without its markup.
func (b *builder) end(texts []text, k kind) []text {
	if len(b.s) == 0 {
		return texts
	}
	s, lines := string(b.s), b.lines
	*b = builder{}
	replace := func(re *regexp.Regexp, by string) {
		var out []byte
		var at []int
		last := 0
		for _, m := range re.FindAllStringIndex(s, -1) {
			out, at = append(out, s[last:m[0]]...), append(at, lines[last:m[0]]...)
			for i := range len(by) {
				out, at = append(out, by[i]), append(at, lines[m[0]])
			}
			last = m[1]
		}
		s, lines = string(append(out, s[last:]...)), append(at, lines[last:]...)
	}
	if k&(paragraph|heading|cell|comment) != 0 {
		replace(codeSpan, "CODE")
		replace(address, "CODE")
	}
	if k&(paragraph|heading|cell) != 0 {
		replace(tag, "")
		replace(link, "]")
	}
	if k != literal {
		replace(strong, "")
	}
	if strings.TrimSpace(s) == "" {
		return texts
	}
	return append(texts, text{kind: k, s: s, lines: lines})
}

var (
	listItem   = regexp.MustCompile(`^\s*(?:[-*+]|\d+[.)])\s+`)
	tableRule  = regexp.MustCompile(`^[|:\- ]+$`)
	cellBorder = regexp.MustCompile(`\\\|`)
)

// markdown returns the texts of a page, and the lines that are too wide.
func markdown(content string) (texts []text, wide []int) {
	var b builder
	fence, inList, afterBlank := "", false, true
	for i, line := range strings.Split(content, "\n") {
		n, trimmed := i+1, strings.TrimSpace(line)
		if fence != "" {
			if strings.HasPrefix(trimmed, fence) {
				fence = ""
			}
			continue
		}
		if strings.HasPrefix(trimmed, "```") || strings.HasPrefix(trimmed, "~~~") {
			texts = b.end(texts, paragraph)
			fence = trimmed[:3]
			continue
		}
		if strings.HasPrefix(trimmed, "|") {
			texts = b.end(texts, paragraph)
			if !tableRule.MatchString(trimmed) {
				// A border within a code span is written \|.
				row := cellBorder.ReplaceAllString(strings.Trim(trimmed, "|"), "/")
				for _, c := range strings.Split(row, "|") {
					var one builder
					one.add(strings.TrimSpace(c), n)
					texts = one.end(texts, cell)
				}
			}
			afterBlank = false
			continue
		}
		if trimmed == "" {
			texts = b.end(texts, paragraph)
			afterBlank = true
			continue
		}
		item := listItem.FindString(line)
		indented := strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "\t")
		if indented && afterBlank && !inList && len(b.s) == 0 {
			continue // a block of code
		}
		afterBlank = false
		if utf8.RuneCountInString(line) > 120 && strings.Contains(trimmed[len(strings.TrimSpace(item)):], " ") && !strings.HasPrefix(trimmed, "#") {
			wide = append(wide, n)
		}
		switch {
		case strings.HasPrefix(trimmed, "#"):
			texts = b.end(texts, paragraph)
			b.add(strings.TrimLeft(trimmed, "# "), n)
			texts = b.end(texts, heading)
			inList = false
		case item != "":
			texts = b.end(texts, paragraph)
			b.add(line[len(item):], n)
			inList = true
		default:
			if !indented && !strings.HasPrefix(line, " ") && len(b.s) == 0 {
				inList = false
			}
			b.add(strings.TrimPrefix(trimmed, "> "), n)
		}
	}
	return b.end(texts, paragraph), wide
}

var (
	directive = regexp.MustCompile(`^//(?:[a-z]+:|\s*nolint|export |line )`)
	output    = regexp.MustCompile(`(?i)^(?:unordered )?output:`)
)

// goFile returns the texts of a Go file, and the lines with a comment that is
// too wide.
func goFile(name, content string) (texts []text, wide []int) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, content, parser.ParseComments)
	if err != nil || ast.IsGenerated(file) {
		return nil, nil
	}
	source := strings.Split(content, "\n")
	for _, group := range file.Comments {
		var b builder
	comments:
		for _, c := range group.List {
			first := set.Position(c.Pos())
			if directive.MatchString(c.Text) {
				continue
			}
			block := strings.HasPrefix(c.Text, "/*")
			for i, line := range strings.Split(strings.TrimSuffix(strings.TrimPrefix(c.Text, "/*"), "*/"), "\n") {
				n := first.Line + i
				line = strings.TrimPrefix(strings.TrimPrefix(line, "//"), " ")
				trimmed := strings.TrimSpace(line)
				if output.MatchString(trimmed) {
					break comments
				}
				if strings.HasPrefix(line, "\t") && !listItem.MatchString(line) { // code
					texts = b.end(texts, comment)
					continue
				}
				if !block && strings.HasPrefix(strings.TrimSpace(source[n-1]), "//") &&
					utf8.RuneCountInString(c.Text) > 80 && strings.Contains(trimmed, " ") {
					wide = append(wide, n)
				}
				item := listItem.FindString(line)
				switch {
				case trimmed == "":
					texts = b.end(texts, comment)
				case strings.HasPrefix(trimmed, "# "):
					texts = b.end(texts, comment)
					b.add(trimmed[2:], n)
					texts = b.end(texts, heading)
				case item != "":
					texts = b.end(texts, comment)
					b.add(line[len(item):], n)
				default:
					b.add(trimmed, n)
				}
			}
		}
		texts = b.end(texts, comment)
	}
	if !strings.HasSuffix(name, "_test.go") {
		texts = append(texts, literals(set, file)...)
	}
	return texts, wide
}

var words = regexp.MustCompile(`[a-z]{2,}[,:;]? [a-z]{2,}`)

// literals returns the strings of a file that look like text for people.
// Strings that are added up are one.
func literals(set *token.FileSet, file *ast.File) (texts []text) {
	skip := map[ast.Node]bool{}
	emit := func(parts []ast.Expr) {
		var b builder
		for _, part := range parts {
			at, s := set.Position(part.Pos()).Line, "X"
			if lit, ok := part.(*ast.BasicLit); ok {
				s, _ = strconv.Unquote(lit.Value)
				for i, line := range strings.Split(s, "\n") {
					n := at
					if strings.HasPrefix(lit.Value, "`") {
						n += i
					}
					if line == "" && i > 0 {
						if words.MatchString(string(b.s)) {
							texts = b.end(texts, literal)
						}
						b = builder{}
						continue
					}
					b.addRaw(line, n, i > 0)
				}
				continue
			}
			b.addRaw(s, at, false)
		}
		if words.MatchString(string(b.s)) {
			texts = b.end(texts, literal)
		}
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.Field:
			if node.Tag != nil {
				skip[node.Tag] = true
			}
		case *ast.BinaryExpr:
			if node.Op != token.ADD || skip[node] {
				return true
			}
			var parts []ast.Expr
			isText := false
			var flatten func(e ast.Expr)
			flatten = func(e ast.Expr) {
				if sum, ok := e.(*ast.BinaryExpr); ok && sum.Op == token.ADD {
					skip[sum] = true
					flatten(sum.X)
					flatten(sum.Y)
					return
				}
				if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					skip[lit], isText = true, true
				}
				parts = append(parts, e)
			}
			flatten(node)
			if isText {
				emit(parts)
			}
		case *ast.BasicLit:
			if node.Kind == token.STRING && !skip[node] {
				emit([]ast.Expr{node})
			}
		}
		return true
	})
	return texts
}

// addRaw adds s without a space before it, unless it is a new line.
func (b *builder) addRaw(s string, line int, newLine bool) {
	if newLine {
		b.add(strings.TrimSpace(s), line)
		return
	}
	for i := range len(s) {
		b.s = append(b.s, s[i])
		b.lines = append(b.lines, line)
	}
}
