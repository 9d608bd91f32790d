package servers

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// A serverDir is the folder of one server. The lock on its file "owner" ends
// with this process, however the process ends. Then later processes can detect
// that the folder is abandoned.
type serverDir struct {
	path  string // free of symbolic links, as the server itself reports it
	owner *os.File
}

const dirPrefix = "namedlock-server-"

var sweep = sync.OnceFunc(removeAbandoned)

func newDir() (*serverDir, error) {
	sweep()
	path, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		return nil, err
	}
	d := &serverDir{path: path}
	if d.path, err = filepath.EvalSymlinks(path); err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	if d.owner, err = os.Create(d.join("owner")); err == nil {
		err = lockFile(d.owner)
	}
	if err == nil {
		err = os.Mkdir(d.join("tmp"), 0o700)
	}
	if err != nil {
		return nil, errors.Join(err, d.remove())
	}
	return d, nil
}

func (d *serverDir) join(name string) string { return filepath.Join(d.path, name) }

func (d *serverDir) remove() error {
	err := os.RemoveAll(d.path)
	d.owner.Close()
	return err
}

// giveTo makes u the owner of the folder and its content.
func (d *serverDir) giveTo(u *user.User) error {
	uid, gid, err := ids(u)
	if err != nil {
		return err
	}
	return filepath.WalkDir(d.path, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = os.Lchown(path, uid, gid)
		}
		return err
	})
}

func ids(u *user.User) (uid, gid int, err error) {
	if uid, err = strconv.Atoi(u.Uid); err == nil {
		gid, err = strconv.Atoi(u.Gid)
	}
	return uid, gid, err
}

// removeAbandoned removes the folders of processes that were interrupted or
// killed. It keeps folders that are less than 1 min old, since their owners may
// not have locked them yet.
func removeAbandoned() {
	const young = time.Minute
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	for _, dir := range dirs {
		owner, err := os.Open(filepath.Join(dir, "owner"))
		if err != nil {
			continue
		}
		info, err := owner.Stat()
		if err == nil && time.Since(info.ModTime()) > young && lockFile(owner) == nil {
			os.RemoveAll(dir)
		}
		owner.Close()
	}
}
