//go:build unix

package command

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/go-namedlock/namedlock/e2e/servers"
)

// Each line is what was typed before the tab, and words that are offered then.
var completed = []struct {
	typed  string
	offers []string
}{
	{"namedlock l", []string{"lead", "list"}},
	{"namedlock run -t", []string{"-timeout"}},
	{"namedlock run -timeout ", []string{"forever"}},
	{"namedlock lead -", []string{"-dsn", "-defaults-file", "-grace", "-quiet", "-verbose"}},
	{"namedlock check -", []string{"-dsn", "-defaults-file", "-json"}},
	{"namedlock completion ", []string{"bash", "zsh"}},
	{"namedlock run x -- basen", []string{"basename"}},
	{"namedlock run -timeout 0 x -- cat /etc/passw", []string{"/etc/passwd"}},
	{"namedlock run x -- ls /etc/passw", []string{"/etc/passwd"}},
	{"namedlock holder -defaults-file /etc/passw", []string{"/etc/passwd"}},
}

func TestCompletion_Bash(t *testing.T) {
	for name, prelude := range map[string]string{"alone": "", "with bash-completion": ". /usr/share/bash-completion/bash_completion\n"} {
		t.Run(name, func(t *testing.T) {
			if _, err := os.Stat("/usr/share/bash-completion/bash_completion"); err != nil && prelude != "" {
				servers.Missing(t, "bash-completion is not installed")
			}
			for _, c := range completed {
				script := prelude + `eval "$("$0" completion bash)"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
					_namedlock; printf '%s\n' "${COMPREPLY[@]}"`
				args := append([]string{"--norc", "-c", script, binary}, strings.Split(c.typed, " ")...)
				out, _ := exec.Command("bash", args...).Output() // on standard error: that this is no real completion
				offers := strings.Fields(string(out))
				assert.Subset(t, offers, c.offers, "%s", c.typed)
				if strings.HasSuffix(c.typed, "-") {
					assert.Len(t, offers, len(c.offers), "%s", c.typed)
				}
			}
		})
	}
}

func TestCompletion_Zsh(t *testing.T) {
	if _, err := exec.LookPath("zsh"); err != nil {
		servers.Missing(t, "zsh is not installed")
	}
	home := t.TempDir()
	for _, c := range completed {
		t.Run(c.typed, func(t *testing.T) {
			cmd := exec.Command("zsh", "-f", "-i")
			cmd.Env = append(os.Environ(), "HOME="+home, "TERM=dumb", "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
			s := (&bench{T: t}).onTerminal(cmd)
			s.types("PS1='$ '; LISTMAX=1000; autoload -U compinit && compinit -u; eval \"$(namedlock completion zsh)\";  echo r\"\"eady\n")
			s.shows("ready")
			s.types(c.typed)
			s.types("\t")
			for _, offer := range c.offers {
				assert.Eventually(t, func() bool { return strings.Contains(s.out.String(), offer) }, patience, 5*time.Millisecond, "%s: %s", offer, s.out.String())
			}
		})
	}
}
