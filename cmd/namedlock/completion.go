package main

import (
	"context"
	_ "embed"
	"io"
	"strconv"
	"strings"
	"time"
)

// completions are the scripts, by shell.
var completions = map[string]string{"bash": completionBash, "zsh": completionZsh}

//go:embed completion.bash
var completionBash string

//go:embed completion.zsh
var completionZsh string

// patienceAtPrompt bounds how long a shell waits for the names.
const patienceAtPrompt = time.Second

// namesForShell prints the names of the held locks, one per line, for the
// completion scripts. A name that is not printable, or looks like a flag, is
// left out. If the server is unreachable or does not list its locks, nothing is
// printed, and the exit code is not 0.
func namesForShell(ctx context.Context, in *invocation) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, patienceAtPrompt)
	defer cancel()
	in.server.stderr = io.Discard
	locker, _, err := in.server.open()
	if err != nil {
		return exitUsage, nil
	}
	holders, err := locker.Holders(ctx, strings.Join(in.args, ""))
	if err != nil {
		return exitUnavailable, nil
	}
	for _, h := range holders {
		if strings.HasPrefix(h.Name, "-") || strings.ContainsFunc(h.Name, isNotPrintable) {
			continue
		}
		if err := print(in.stdout, h.Name+"\n"); err != nil {
			return exitUnavailable, nil
		}
	}
	return exitOK, nil
}

func isNotPrintable(r rune) bool { return !strconv.IsPrint(r) }

func completion(_ context.Context, in *invocation) (int, error) {
	if len(in.args) != 1 || completions[in.args[0]] == "" {
		return exitUsage, usagef("completion takes bash or zsh: namedlock completion bash")
	}
	_, err := io.WriteString(in.stdout, completions[in.args[0]])
	return exitOK, err
}
