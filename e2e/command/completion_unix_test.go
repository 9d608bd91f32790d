//go:build unix

package command

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/e2e/servers"
)

// Each line has the text before the tab, and words that are then offered.
var completed = []struct {
	typed  string
	offers []string
}{
	{"namedlock l", []string{"lead", "list"}},
	{"namedlock ve", []string{"version"}},
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
				// Standard error has a warning that this is not a real completion.
				out, _ := exec.Command("bash", args...).Output()
				offers := strings.Fields(string(out))
				assert.Subset(t, offers, c.offers, "%s", c.typed)
				if strings.HasSuffix(c.typed, "-") {
					assert.Len(t, offers, len(c.offers), "%s", c.typed)
				}
			}
		})
	}
}

// The text before the tab is completed to the name of a held lock, quoted as
// needed.
var namesCompleted = []struct{ typed, name string }{
	{"pla", "plain"},
	{"odd", "odd name"},
	{"odd\\ n", "odd name"},
	{"'odd n", "odd name"},
	{"customer:4", "customer:42"},
	{"customer", "customer:42"},
	{"it", `it's "a" $1 \ *`},
	{"fran", "français"},
	{"a=b", "a=b;c"},
}

// unfit are names that no command line can contain.
var unfit = []string{"plain\n", "plain\x1b[31m", "-plain"}

func TestCompletion_Names(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		if b.server.Kind() == servers.MariaDB {
			_, _ = b.db.Exec("INSTALL SONAME 'metadata_lock_info'")
		}
		for _, c := range namesCompleted {
			if b.holder(c.name) == 0 {
				b.hold(c.name)
			}
		}
		for _, name := range unfit {
			b.hold(name)
		}
		for shell, start := range map[string]string{
			"bash": `PS1='$ '; eval "$(namedlock completion bash)"`,
			"zsh":  `PS1='$ '; autoload -U compinit && compinit -u; eval "$(namedlock completion zsh)"`,
		} {
			t.Run(shell, func(t *testing.T) {
				path, err := exec.LookPath(shell)
				if err != nil {
					servers.Missing(t, shell+" is not installed")
				}
				args := map[string][]string{"bash": {"--norc", "--noprofile", "-i"}, "zsh": {"-f", "-i"}}[shell]
				for _, c := range namesCompleted {
					cmd := exec.Command(path, args...)
					cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "TERM=dumb", "LC_ALL=C.UTF-8", "NAMEDLOCK_DSN="+b.server.DSN(),
						"PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
					s := (&bench{T: t}).onTerminal(cmd)
					s.types(start + "; echo r\"\"eady\n")
					s.shows("ready")
					// The completion gives up after a second. On a busy machine that may be
					// too short, and then the line is typed again.
					s.showsAfter(func() { s.types("namedlock holder " + c.typed + "\t"); s.types("\n") }, 5*time.Second,
						fmt.Sprintf("connection %d, ", b.holder(c.name)))
				}
			})
		}
	})
}

// At a prompt, the completion prints no error, and does not wait for a server
// that does not answer.
func TestCompletion_NoServer(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	for _, dsn := range []string{"u:p@tcp(" + silent.Addr().String() + ")/", "u:p@tcp(127.0.0.1:1)/", "nonsense", ""} {
		cmd := exec.Command(binary, "names", "--", "x")
		cmd.Env = append(os.Environ(), "NAMEDLOCK_DSN="+dsn, "HOME="+t.TempDir())
		var said strings.Builder
		cmd.Stdout, cmd.Stderr = &said, &said
		began := time.Now()
		require.Error(t, cmd.Run())
		assert.Less(t, time.Since(began), patience/10, "a second, and what the machine needs to start a process")
		assert.Empty(t, said.String(), dsn)
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
