//go:build !unix

package optionfile

import "io/fs"

func owner(fs.FileInfo) (uid int, ok bool) { return 0, false }
