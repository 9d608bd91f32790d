//go:build unix

package optionfile

import (
	"io/fs"
	"syscall"
)

// owner returns the id of the user whom the file belongs to.
func owner(info fs.FileInfo) (uid int, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}
