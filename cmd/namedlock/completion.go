package main

import (
	"context"
	_ "embed"
	"io"
)

// completions are the scripts, by shell.
var completions = map[string]string{"bash": completionBash, "zsh": completionZsh}

//go:embed completion.bash
var completionBash string

//go:embed completion.zsh
var completionZsh string

func completion(_ context.Context, in *invocation) (int, error) {
	if len(in.args) != 1 || completions[in.args[0]] == "" {
		return exitUsage, usagef("completion is for bash or zsh: namedlock completion bash")
	}
	_, err := io.WriteString(in.stdout, completions[in.args[0]])
	return exitOK, err
}
