package servers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
)

// A flavour has the functions that find, initialise and run one product.
type flavour struct {
	kind Kind
	name string // of the program
	find func() (*program, error)
	// Makes the data directory, with root and the database test.
	initialise func(p *program, data string) error
	args       func(p *program) []string
}

// findVersion looks for a version that fetch.sh has unpacked.
func (f flavour) findVersion(version string) (*program, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	root := filepath.Join(cache, string(f.kind)+"-"+version)
	if p := in(root, f.name); p != nil {
		return p, nil
	}
	return nil, &MissingError{Kind: f.kind + " " + Kind(version), Looked: []string{f.name + " in " + root}}
}

// A program is a server's executable file.
type program struct {
	file string
	base string // the folder above bin or sbin
	// The command. If the libraries are not those of the system, the command runs
	// a dynamic linker of their own.
	argv []string
	user *user.User // the user to run as; nil: the user of this process
	// The flags with its folders, if they are not where the program was built to
	// find them.
	args []string
}

// in looks for a program in root, a folder into which packages were unpacked.
func in(root string, names ...string) *program {
	p := firstFile([]string{"usr/sbin", "usr/bin", "sbin", "bin", "libexec"}, root, names)
	if p == nil {
		return nil
	}
	if linker := firstMatch(root, "usr/lib64/ld-linux*.so.*", "usr/lib/ld-linux*.so.*", "lib*/ld-linux*.so.*"); linker != "" {
		if libraries := firstMatch(root, "usr/lib/*-linux-gnu*"); libraries != "" {
			p.argv = []string{linker, "--library-path", libraries, p.file}
		}
	}
	p.args = []string{"--basedir=" + p.base}
	if share := p.share("english/errmsg.sys"); share != "" {
		p.args = append(p.args, "--lc-messages-dir="+share, "--character-sets-dir="+filepath.Join(share, "charsets"))
	}
	if plugins := firstMatch(p.base, "lib/mysql/plugin", "lib/mariadb/plugin", "lib64/mysql/plugin", "lib/plugin"); plugins != "" {
		p.args = append(p.args, "--plugin-dir="+plugins)
	}
	return p
}

// installed looks for a program of the system.
func installed(names ...string) *program {
	dirs := append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin", "/usr/libexec")
	return firstFile(dirs, "", names)
}

func firstFile(dirs []string, root string, names []string) *program {
	for _, dir := range dirs {
		for _, name := range names {
			file, err := exec.LookPath(filepath.Join(root, dir, name))
			if err != nil {
				continue
			}
			if file, err = filepath.Abs(file); err != nil {
				continue
			}
			if real, err := filepath.EvalSymlinks(file); err == nil {
				file = real
			}
			return &program{file: file, base: filepath.Dir(filepath.Dir(file)), argv: []string{file}}
		}
	}
	return nil
}

func firstMatch(root string, patterns ...string) string {
	for _, pattern := range patterns {
		if found, _ := filepath.Glob(filepath.Join(root, pattern)); len(found) > 0 {
			return found[0]
		}
	}
	return ""
}

// share returns the folder of the program's read-only data that contains the
// file, or "".
func (p *program) share(file string) string {
	found := firstMatch(p.base, "share/mysql/"+file, "share/mariadb/"+file, "share/"+file)
	return strings.TrimSuffix(found, string(filepath.Separator)+filepath.FromSlash(file))
}

// command returns the program's command, with the flags that every run needs
// before args.
func (p *program) command(args ...string) *exec.Cmd {
	argv := append([]string{}, p.argv[1:]...)
	argv = append(argv, "--no-defaults")
	argv = append(argv, p.args...)
	if os.Geteuid() == 0 && p.user == nil {
		argv = append(argv, "--user=root") // both servers run as root only with this flag
	}
	return exec.Command(p.argv[0], append(argv, args...)...)
}

// run runs the program to its end.
func (p *program) run(stdin string, args ...string) error {
	cmd := p.command(args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	proc, err := startProcess(cmd, p.user)
	if err != nil {
		return err
	}
	<-proc.exited()
	if proc.err != nil {
		return fmt.Errorf("%s: %w%s", p.file, proc.err, indent(out.String()))
	}
	return nil
}

// serve starts the program as a server in dir. Paths inside dir are relative,
// since the path of a socket must be short.
func (p *program) serve(dir *serverDir, port int, args []string) (instance, error) {
	log, err := os.OpenFile(dir.join("error.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := p.command(append([]string{
		"--datadir=" + dir.join("data"),
		"--tmpdir=" + dir.join("tmp"),
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--port=%d", port),
		"--socket=server.sock",
		"--pid-file=server.pid",
	}, args...)...)
	cmd.Dir = dir.join("data")
	cmd.Stdout, cmd.Stderr = log, log
	proc, err := startProcess(cmd, p.user)
	if err = errors.Join(err, log.Close()); err != nil {
		return nil, err
	}
	return proc, nil
}
