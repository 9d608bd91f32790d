// Package optionfile reads the option files of MySQL and MariaDB clients, such
// as ~/.my.cnf, as "Using Option Files" in the MySQL manual describes them.
package optionfile

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Setting is one line of a group.
type Setting struct {
	Key   string // in lower case, with - for _
	Value string
	Given bool // there was a "=": a key alone, such as "ssl", is a switch

	File string
	Line int
	Open bool // all users can read the file
}

// Errorf returns an error with the file and the line of the setting.
func (s Setting) Errorf(format string, args ...any) error {
	return at(s.File, s.Line, format, args...)
}

func at(file string, line int, format string, args ...any) error {
	return fmt.Errorf("%s, line %d: %w", file, line, fmt.Errorf(format, args...))
}

// maxDepth bounds how deep files include each other.
const maxDepth = 10

// Read returns the settings of the groups in the file and in the files that it
// includes, in their order. A later setting replaces an earlier one.
func Read(file string, groups ...string) ([]Setting, error) {
	return read(file, groups, 0)
}

func read(file string, groups []string, depth int) ([]Setting, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read the option file: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot read the option file: %w", err)
	}
	if err := trusted(file, info); err != nil {
		return nil, err
	}
	open := hasPermissions && info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0

	var settings []Setting
	var group string
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		switch {
		case text == "", text[0] == '#', text[0] == ';':
		case text[0] == '!':
			included, err := include(text, file, n, groups, depth)
			if err != nil {
				return nil, err
			}
			settings = append(settings, included...)
		case text[0] == '[':
			name, rest, closed := strings.Cut(text[1:], "]")
			if rest = strings.TrimSpace(rest); !closed || rest != "" && rest[0] != '#' && rest[0] != ';' {
				return nil, at(file, n, "a group is a name in brackets, such as [client], not %q", text)
			}
			group = strings.ToLower(strings.TrimSpace(name))
		case group == "":
			return nil, at(file, n, "this line comes before the first group, such as [client]")
		case slices.Contains(groups, group):
			s, err := parse(text)
			if err != nil {
				return nil, at(file, n, "%w", err)
			}
			s.File, s.Line, s.Open = file, n, open
			settings = append(settings, s)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("cannot read the option file %s: %w", file, err)
	}
	return settings, nil
}

// trusted refuses a file that another user can write to. That user could direct
// a password to another server. A file that root can write to is accepted.
func trusted(file string, info fs.FileInfo) error {
	switch uid, owned := owner(info); {
	case info.IsDir():
		return fmt.Errorf("option file %s is a directory", file)
	case !info.Mode().IsRegular() || !hasPermissions:
		return nil
	case info.Mode().Perm()&0o002 != 0:
		return fmt.Errorf("option file %s is world-writable; run chmod 600 %[1]s", file)
	case info.Mode().Perm()&0o020 != 0:
		return fmt.Errorf("option file %s is group-writable; run chmod 600 %[1]s", file)
	case owned && uid != 0 && uid != os.Geteuid():
		return fmt.Errorf("option file %s belongs to another user (id %d); it must belong to you or to root", file, uid)
	}
	return nil
}

func include(text, file string, n int, groups []string, depth int) ([]Setting, error) {
	directive, path, _ := strings.Cut(text, " ")
	path = strings.TrimSpace(path)
	if path == "" {
		return nil, at(file, n, "%s without a file name", directive)
	}
	if depth == maxDepth {
		return nil, at(file, n, "option files include each other more than %d deep", maxDepth)
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(file), path)
	}
	var files []string
	switch directive {
	case "!include":
		files = []string{path}
	case "!includedir":
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, at(file, n, "%w", err)
		}
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); ext == ".cnf" || ext == ".ini" && !hasPermissions {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
	default:
		return nil, at(file, n, "unknown directive %s; use !include or !includedir", directive)
	}
	var settings []Setting
	for _, f := range files {
		included, err := read(f, groups, depth+1)
		if errors.Is(err, fs.ErrNotExist) {
			err = at(file, n, "%w", err)
		}
		if err != nil {
			return nil, err
		}
		settings = append(settings, included...)
	}
	return settings, nil
}

// parse splits a line into key, or key=value. It reads quotes exactly as the
// clients do, so a password that works in the clients works here.
func parse(text string) (Setting, error) {
	text = strings.TrimSpace(withoutComment(text))
	key, value, given := strings.Cut(text, "=")
	s := Setting{Key: strings.ReplaceAll(strings.ToLower(strings.TrimSpace(key)), "_", "-"), Given: given}
	if s.Key == "" {
		return s, errors.New("missing key before =")
	}
	value = strings.TrimSpace(value)
	if n := len(value); n > 1 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
		value = value[1 : n-1]
	}
	s.Value = unescape(value)
	return s, nil
}

// withoutComment cuts the text at the first # outside quotes.
func withoutComment(text string) string {
	var quote byte
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quote != 0 && c == '\\':
			i++
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0 && c == '#':
			return text[:i]
		}
	}
	return text
}

// unescape replaces the escape sequences of option files. A backslash before
// any other character stays, as in C:\data.
func unescape(value string) string {
	if !strings.Contains(value, `\`) {
		return value
	}
	var b strings.Builder
	for i := 0; i < len(value); i++ {
		if value[i] != '\\' || i+1 == len(value) {
			b.WriteByte(value[i])
			continue
		}
		i++
		switch c := value[i]; c {
		case 'b':
			b.WriteByte('\b')
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 's':
			b.WriteByte(' ')
		case '\\', '"', '\'':
			b.WriteByte(c)
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
	}
	return b.String()
}
