package servers

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// cacheDir returns the folder of the programs that fetch.sh gets, and of the
// templates.
func cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "namedlock"), nil
}

var templates sync.Mutex

// fillData makes a data directory as a copy of a template, since a server needs
// seconds to initialise one.
func fillData(f flavour, p *program, data string) error {
	templates.Lock()
	template, err := template(f, p)
	templates.Unlock()
	if err != nil {
		return err
	}
	if template == "" {
		return f.initialise(p, data)
	}
	return os.CopyFS(data, os.DirFS(template))
}

// template returns a data directory of this very program, which no server uses,
// or "" if there is no place for one. Several processes may make it at the same
// time. The first to finish wins.
func template(f flavour, p *program) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", nil
	}
	info, err := os.Stat(p.file)
	if err != nil {
		return "", err
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%s %d %s %q", p.file, info.Size(), info.ModTime(), f.args(p)))
	path := filepath.Join(cache, "data", fmt.Sprintf("%s-%x", f.kind, key[:8]))
	if exists(path) {
		return path, nil
	}

	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", nil
	}
	work, err := os.MkdirTemp(filepath.Dir(path), "new-")
	if err != nil {
		return "", nil
	}
	defer os.RemoveAll(work)
	fresh := filepath.Join(work, "data")
	if err := f.initialise(p, fresh); err != nil {
		return "", fmt.Errorf("initialise: %w", err)
	}
	if err := os.Rename(fresh, path); err != nil && !exists(path) {
		return "", err
	}
	return path, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
