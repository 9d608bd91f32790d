//go:build !unix

package main

import (
	"errors"
	"os"
)

// No process can be stopped here and go on later.
const canStop = false

func stopProcess(*os.Process) error     { return errors.ErrUnsupported }
func continueProcess(*os.Process) error { return errors.ErrUnsupported }
