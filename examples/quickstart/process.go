package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
)

// A worker is a process that runs work.
type worker struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.Reader
	stderr bytes.Buffer
}

func startWorker(dsn string) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &worker{cmd: exec.Command(self)}
	w.cmd.Env = append(os.Environ(), workerDSN+"="+dsn)
	w.cmd.Stderr = &w.stderr
	if w.stdin, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if w.stdout, err = w.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return w, w.cmd.Start()
}

// A report is a line that a worker has said, or its end.
type report struct {
	worker int
	said   string
	end    bool
	err    error // of the end
}

func (w *worker) listen(number int, reports chan<- report) {
	for lines := bufio.NewScanner(w.stdout); lines.Scan(); {
		reports <- report{worker: number, said: lines.Text()}
	}
	reports <- report{worker: number, end: true, err: w.cmd.Wait()}
}
