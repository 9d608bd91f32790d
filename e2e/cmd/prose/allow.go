package main

import (
	"fmt"
	"os"
	"path"
	"strings"
)

// An exception is a line of .ci/prose.allow: FILE | RULE | TEXT | REASON. FILE
// is a pattern of path.Match, or a folder that ends with a slash. RULE may be
// *. TEXT is a part of the finding's text, or *.
type exception struct {
	line             int
	file, rule, text string
	used             bool
}

type exceptions []*exception

func readAllowed(name string) (exceptions, error) {
	content, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all exceptions
	for i, line := range strings.Split(string(content), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(line, " | ")
		if len(fields) != 4 || strings.TrimSpace(fields[3]) == "" {
			return nil, fmt.Errorf("%s:%d: want FILE | RULE | TEXT | REASON", name, i+1)
		}
		all = append(all, &exception{line: i + 1, file: fields[0], rule: fields[1], text: fields[2]})
	}
	return all, nil
}

func (all exceptions) allow(f finding) bool {
	allowed := false
	for _, e := range all {
		inFile, _ := path.Match(e.file, f.file)
		if strings.HasSuffix(e.file, "/") {
			inFile = strings.HasPrefix(f.file, e.file)
		}
		if inFile && (e.rule == "*" || e.rule == f.rule) && (e.text == "*" || strings.Contains(f.text, e.text)) {
			e.used, allowed = true, true
		}
	}
	return allowed
}
