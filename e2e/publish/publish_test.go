// Package publish tests that the published modules can be used outside of this
// workspace, without its replacements.
package publish

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const library = "github.com/go-namedlock/namedlock"

// published are the folders of the modules that are published. The other
// modules of the workspace are only for this repository.
var published = []string{".", "otelnamedlock", "goosenamedlock", "gocronnamedlock"}

// A consumer outside the workspace can get the library and each of its modules,
// in the version of the next tag.
func TestAConsumerCanGetIt(t *testing.T) {
	proxy, consumer, version := t.TempDir(), t.TempDir(), nextVersion(t)
	var gets []string
	for _, folder := range published {
		module := path.Join(library, folder)
		publish(t, proxy, folder, module, version)
		gets = append(gets, module+"@"+version)
	}
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Dir = consumer
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod -modcacherw -trimpath", "GONOSUMDB="+library+","+library+"/*", "GOMODCACHE="+t.TempDir(),
			"GOPROXY=file://"+filepath.ToSlash(proxy)+",file://"+filepath.ToSlash(filepath.Join(goEnv(t, "GOMODCACHE"), "cache", "download"))+","+goEnv(t, "GOPROXY"))
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "go %s: %s", strings.Join(args, " "), out)
	}
	require.NoError(t, os.WriteFile(filepath.Join(consumer, "main.go"), []byte(consumerCode), 0o600))
	run("mod", "init", "example.com/consumer")
	run(append([]string{"get"}, gets...)...)
	run("build", "-o", os.DevNull, ".")
	b, err := os.ReadFile(filepath.Join(consumer, "go.mod"))
	require.NoError(t, err)
	for _, get := range gets {
		assert.Contains(t, string(b), strings.ReplaceAll(get, "@", " "))
	}
}

const consumerCode = `package main

import (
	"context"
	"database/sql"
	"log"
	"time"

	"github.com/go-namedlock/namedlock"
	_ "github.com/go-namedlock/namedlock/gocronnamedlock"
	_ "github.com/go-namedlock/namedlock/goosenamedlock"
	"github.com/go-namedlock/namedlock/locktest"
	"github.com/go-namedlock/namedlock/otelnamedlock"
	_ "github.com/go-sql-driver/mysql"
)

func main() {
	db, err := sql.Open("mysql", "app@tcp(127.0.0.1:3306)/")
	if err != nil {
		log.Fatal(err)
	}
	var locks namedlock.Interface
	locks, err = namedlock.Open(db, otelnamedlock.WithTelemetry())
	if err != nil {
		locks = locktest.New()
	}
	log.Print(locks.WithLock(context.Background(), "report", time.Second, func(context.Context) error { return nil }))
}
`

// Every module requires the same version of the library, which is the first one
// in CHANGELOG.
func nextVersion(t *testing.T) string {
	t.Helper()
	changes, err := os.ReadFile(filepath.Join(root(t), "CHANGELOG.md"))
	require.NoError(t, err)
	m := regexp.MustCompile(`(?m)^## (v\d+\.\d+\.\d+)`).FindSubmatch(changes)
	require.NotNil(t, m, "CHANGELOG.md has no version")
	version := string(m[1])
	mods, err := filepath.Glob(filepath.Join(root(t), "*", "go.mod"))
	require.NoError(t, err)
	require.NotEmpty(t, mods)
	inner, err := filepath.Glob(filepath.Join(root(t), "e2e", "*", "go.mod"))
	require.NoError(t, err)
	require.NotEmpty(t, inner)
	mods = append(mods, inner...)
	for _, mod := range mods {
		b, err := os.ReadFile(mod)
		require.NoError(t, err)
		required := regexp.MustCompile(`(?m)^\s*`+regexp.QuoteMeta(library)+`(?:/\S+)? (v\S+)`).FindAllSubmatch(b, -1)
		require.NotEmpty(t, required, mod)
		for _, r := range required {
			assert.Equal(t, version, string(r[1]), mod)
		}
	}
	return version
}

// publish writes the module into a module proxy in a folder.
func publish(t *testing.T, proxy, folder, module, version string) {
	t.Helper()
	from := filepath.Join(root(t), folder)
	to := filepath.Join(proxy, filepath.FromSlash(module), "@v")
	require.NoError(t, os.MkdirAll(to, 0o755))
	mod, err := os.ReadFile(filepath.Join(from, "go.mod"))
	require.NoError(t, err)
	info, err := json.Marshal(map[string]string{"Version": version, "Time": "2026-01-01T00:00:00Z"})
	require.NoError(t, err)
	for name, content := range map[string][]byte{
		"list": []byte(version + "\n"), version + ".mod": mod, version + ".info": info,
		version + ".zip": zipped(t, from, module+"@"+version),
	} {
		require.NoError(t, os.WriteFile(filepath.Join(to, name), content, 0o600))
	}
}

// zipped returns the zip file of the module, without the modules nested in it.
func zipped(t *testing.T, from, prefix string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	require.NoError(t, filepath.WalkDir(from, func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && file != from:
			if _, err := os.Stat(filepath.Join(file, "go.mod")); err == nil || strings.HasPrefix(entry.Name(), ".") {
				return fs.SkipDir
			}
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		name, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		w, err := z.Create(prefix + "/" + filepath.ToSlash(name))
		if err != nil {
			return err
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	}))
	require.NoError(t, z.Close())
	return b.Bytes()
}

// The library itself requires the driver, and two more modules for its tests.
func TestTheLibraryNeedsLittle(t *testing.T) {
	cmd := exec.Command("go", "list", "-m", "-f", "{{if not (or .Main .Indirect)}}{{.Path}}{{end}}", "all")
	cmd.Dir, cmd.Env = root(t), append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	require.NoError(t, err)
	needed := strings.Fields(string(out))
	slices.Sort(needed)
	assert.Equal(t, []string{"github.com/DATA-DOG/go-sqlmock", "github.com/go-sql-driver/mysql", "github.com/stretchr/testify"}, needed)
}

func root(t *testing.T) string {
	t.Helper()
	here, err := os.Getwd()
	require.NoError(t, err)
	return filepath.Join(here, "..", "..")
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	require.NoError(t, err, fmt.Sprint("go env ", name))
	return strings.TrimSpace(string(out))
}
