// Command prose checks the language of this repository: its Markdown, its Go
// comments, and the string literals of Go code that is not a test. The rules
// are in rules.go. .ci/prose runs it.
//
//	.ci/prose [new [BASE] | all] [FILE…]
//
// new checks the lines that were added since BASE: the point at which this
// branch left origin/main or main, or the parent of HEAD if that is HEAD
// itself. Lines that are not committed count as added. all checks every line.
//
// A finding is printed as file:line: rule: text. The exceptions are in
// .ci/prose.allow.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

func main() {
	found, err := run(os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "prose:", err)
		os.Exit(2)
	}
	if found > 0 {
		fmt.Fprintf(os.Stderr, "prose: %d findings; exceptions belong into .ci/prose.allow, each with its reason\n", found)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) (int, error) {
	top, err := git("rev-parse", "--show-toplevel")
	if err != nil {
		return 0, err
	}
	root := strings.TrimSpace(top)
	if err := os.Chdir(root); err != nil {
		return 0, err
	}

	mode := "new"
	if len(args) > 0 && (args[0] == "new" || args[0] == "all") {
		mode, args = args[0], args[1:]
	}
	var base string
	if mode == "new" && len(args) > 0 && isCommit(args[0]) {
		base, args = args[0], args[1:]
	}

	files, err := tracked(args)
	if err != nil {
		return 0, err
	}
	var added map[string]map[int]bool
	if mode == "new" {
		if base == "" {
			base = findBase()
		}
		if base == "" {
			fmt.Fprintln(out, "prose: there is no base to compare with")
			return 0, nil
		}
		if added, err = addedLines(base); err != nil {
			return 0, err
		}
	}
	allowed, err := readAllowed(filepath.Join(".ci", "prose.allow"))
	if err != nil {
		return 0, err
	}

	count := 0
	for _, file := range files {
		lines := added[file]
		if mode == "new" && len(lines) == 0 {
			continue
		}
		content, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue // deleted, and not committed yet
		}
		if err != nil {
			return 0, err
		}
		for _, f := range check(file, content) {
			if mode == "new" && !f.touches(lines) || allowed.allow(f) {
				continue
			}
			count++
			fmt.Fprintf(out, "%s:%d: %s: %s\n", f.file, f.line, f.rule, f.text)
		}
	}
	if mode == "all" && len(args) == 0 {
		for _, a := range allowed {
			if !a.used {
				count++
				fmt.Fprintf(out, ".ci/prose.allow:%d: exceptions: nothing needs this one any more\n", a.line)
			}
		}
	}
	return count, nil
}

func git(args ...string) (string, error) {
	out, err := exec.Command("git", args...).Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}

func isCommit(name string) bool {
	_, err := git("rev-parse", "--verify", "--quiet", name+"^{commit}")
	return err == nil
}

// findBase returns the commit that the lines of the branch are compared with.
func findBase() string {
	head, err := git("rev-parse", "HEAD")
	if err != nil {
		return ""
	}
	for _, upstream := range []string{"origin/main", "main"} {
		base, err := git("merge-base", upstream, "HEAD")
		if err == nil && base != head {
			return strings.TrimSpace(base)
		}
	}
	if branch, err := git("rev-parse", "--abbrev-ref", "HEAD"); err == nil && strings.TrimSpace(branch) != "main" && isCommit("main") {
		return "HEAD" // a branch that has no commit yet
	}
	if isCommit("HEAD^") {
		return "HEAD^"
	}
	return ""
}

// tracked returns the Markdown and Go files that git knows or would add.
func tracked(under []string) ([]string, error) {
	out, err := git(append([]string{"ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"}, under...)...)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, file := range strings.Split(out, "\x00") {
		if strings.HasSuffix(file, ".md") || strings.HasSuffix(file, ".go") {
			files = append(files, file)
		}
	}
	return files, nil
}

// addedLines returns the numbers of the lines that were added since base, for
// each file.
func addedLines(base string) (map[string]map[int]bool, error) {
	out, err := git("diff", "--unified=0", "--no-color", "--no-ext-diff", "--no-renames", base)
	if err != nil {
		return nil, err
	}
	added := map[string]map[int]bool{}
	file := ""
	scanner := bufio.NewScanner(strings.NewReader(out))
	scanner.Buffer(nil, 64<<20)
	for scanner.Scan() {
		line := scanner.Text()
		switch {
		case strings.HasPrefix(line, "+++ "):
			file = strings.TrimPrefix(strings.TrimPrefix(line, "+++ "), "b/")
			added[file] = map[int]bool{}
		case strings.HasPrefix(line, "@@ "):
			// @@ -12,3 +14,2 @@
			_, rest, _ := strings.Cut(line, " +")
			span, _, _ := strings.Cut(rest, " ")
			first, length, several := strings.Cut(span, ",")
			start, _ := strconv.Atoi(first)
			n := 1
			if several {
				n, _ = strconv.Atoi(length)
			}
			for i := start; i < start+n; i++ {
				added[file][i] = true
			}
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, err
	}
	others, err := git("ls-files", "-z", "--others", "--exclude-standard")
	if err != nil {
		return nil, err
	}
	for _, file := range strings.Split(others, "\x00") {
		content, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		added[file] = map[int]bool{}
		for i := range strings.Split(string(content), "\n") {
			added[file][i+1] = true
		}
	}
	return added, nil
}
