package main

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/e2e/servers"
)

// go test does not print the skipped tests of a package that passes. This
// command prints them at the end.
func TestAMissingServerIsNamed(t *testing.T) {
	assert.Equal(t, servers.SkippedFile, skippedFile)
	t.Setenv("NAMEDLOCK_DSN", "")
	t.Setenv("NAMEDLOCK_MYSQL_ROOT", t.TempDir())
	t.Setenv("NAMEDLOCK_REQUIRE_SERVERS", "")
	var out strings.Builder
	passed, err := run(&out, []string{"-run=^TestPromise01_"}, "github.com/go-namedlock/namedlock/e2e")
	require.NoError(t, err)
	assert.True(t, passed, "a test that is skipped has not failed")
	assert.Equal(t, 1, strings.Count(out.String(), "\nSKIPPED: mysql "), "once: %s", out.String())
	assert.Contains(t, out.String(), "\nok  \tgithub.com/go-namedlock/namedlock/e2e\t")
	assert.Regexp(t, `\n1 packages passed, 0 failed, [0-9]+ tests and subtests, in [0-9a-z]+; [0-9a-z]+ of CPU, servers included\n`, out.String())
}

func TestNoSuchPackage(t *testing.T) {
	var out strings.Builder
	passed, err := run(&out, nil, "github.com/go-namedlock/namedlock/nosuch")
	assert.False(t, passed && err == nil)
	assert.Contains(t, out.String(), "nosuch")
}

// An error says what to do about the machine.
func TestErrors(t *testing.T) {
	t.Run("off", func(t *testing.T) {
		require.NoError(t, inWorkspace())
		t.Setenv("GOWORK", "off")
		require.ErrorContains(t, inWorkspace(), "unset it")
	})
	for name, c := range map[string]struct {
		env   map[string]string
		flags []string
		says  string
	}{
		"no network":    {map[string]string{"GOPROXY": "off", "GOMODCACHE": t.TempDir()}, nil, "needs a network"},
		"no C compiler": {map[string]string{"CGO_ENABLED": "0", "GOFLAGS": ""}, []string{"-race"}, "the race detector needs a C compiler"},
	} {
		t.Run(name, func(t *testing.T) {
			for key, value := range c.env {
				t.Setenv(key, value)
			}
			var out strings.Builder
			_, err := run(&out, c.flags, "github.com/go-namedlock/namedlock/e2e")
			require.ErrorContains(t, err, c.says)
			assert.Contains(t, out.String(), "-- 0s: looking for packages\ngo: ", "the go command says it before")
		})
	}
}

func TestReport(t *testing.T) {
	events := []string{
		`{"Action":"start","Package":"p"}`,
		`{"Action":"run","Package":"p","Test":"TestGood"}`,
		`{"Action":"output","Package":"p","Test":"TestGood","Output":"good logs\n"}`,
		`{"Action":"pass","Package":"p","Test":"TestGood","Elapsed":0}`,
		`{"Action":"output","Package":"p","Output":"PASS\n"}`,
		`{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}`,
		`{"Action":"pass","Package":"p","Elapsed":0.1}`,
		`{"Action":"run","Package":"q","Test":"TestBad"}`,
		`{"Action":"output","Package":"q","Test":"TestBad","Output":"=== RUN   TestBad\n"}`,
		`{"Action":"output","Package":"q","Test":"TestBad","Output":"bad logs\n"}`,
		`{"Action":"fail","Package":"q","Test":"TestBad","Elapsed":0}`,
		`{"Action":"run","Package":"q","Test":"TestPanics"}`,
		`{"Action":"output","Package":"q","Test":"TestPanics","Output":"panic: oh\n"}`,
		`{"Action":"output","Package":"q","Output":"FAIL\tq\t0.2s\n"}`,
		`{"Action":"fail","Package":"q","Elapsed":0.2}`,
		`{"Action":"start","Package":"r"}`,
		`{"Action":"skip","Package":"r","Elapsed":0}`,
		`{"ImportPath":"s","Action":"build-output","Output":"s.go:1: no\n"}`,
		`not JSON`,
	}
	for verbose, want := range map[bool]string{
		false: "ok  \tp\t0.1s\n" + "q:\nbad logs\n" + "panic: oh\nFAIL\tq\t0.2s\n" + "s.go:1: no\n" + "not JSON",
		true:  "good logs\nPASS\nok  \tp\t0.1s\n" + "=== RUN   TestBad\nbad logs\npanic: oh\nFAIL\tq\t0.2s\n" + "s.go:1: no\n" + "not JSON",
	} {
		r := newReport(3, verbose)
		var out strings.Builder
		for _, e := range events {
			out.WriteString(r.line(e))
		}
		assert.Equal(t, want, out.String(), "verbose: %v", verbose)
		assert.Equal(t, "testing: 2 of 3 packages, 2 tests and subtests; 1 packages FAILED", r.status())
		assert.Equal(t, "1 packages passed, 1 failed, 2 tests and subtests, in 3s; 2s of CPU, servers included\nthe slowest: q 0 s, p 0 s\n"+
			"FAILED: q: TestBad\n\tbad logs\n",
			r.summary(3*time.Second, 2*time.Second))
	}
}

// The reasons are also at the end: the log of a server may hide them.
func TestReport_Reasons(t *testing.T) {
	r := newReport(2, false)
	for _, e := range []event{
		{Action: "output", Test: "TestA/b", Output: "    a_test.go:7: \n"},
		{Action: "output", Test: "TestA/b", Output: "        \tError Trace:\t/a/a_test.go:7\n"},
		{Action: "output", Test: "TestA/b", Output: "        \t            \t/a/b_test.go:8\n"},
		{Action: "output", Test: "TestA/b", Output: "        \tError:      \tReceived unexpected error:\n"},
		{Action: "output", Test: "TestA/b", Output: "        \t            \tlock lost: no answer\n"},
		{Action: "output", Test: "TestA/b", Output: "        \tTest:       \tTestA/b\n"},
		{Action: "output", Test: "TestA/b", Output: strings.Repeat("    log of the server\n", 9)},
		{Action: "output", Test: "TestA/b", Output: "--- FAIL: TestA/b (1s)\n"},
		{Action: "fail", Test: "TestA/b"},
		{Action: "output", Test: "TestA", Output: "--- FAIL: TestA (1s)\n"},
		{Action: "fail", Test: "TestA"},
		{Action: "output", Output: "FAIL\n"},
		{Action: "fail"},
		{Action: "run", Package: "q", Test: "TestPanics"},
		{Action: "output", Package: "q", Test: "TestPanics", Output: "panic: oh\n"},
		{Action: "fail", Package: "q"},
		{Action: "output", Package: "r/s", Test: "TestBad", Output: "bad\n"},
		{Action: "fail", Package: "r/s", Test: "TestBad"},
		{Action: "fail", Package: "r/s"},
		{Action: "output", Package: "r", Output: "panic: no\n"}, // r/s is not a subtest of it
		{Action: "fail", Package: "r"},
	} {
		if e.Package == "" {
			e.Package = "p"
		}
		line, err := json.Marshal(e)
		require.NoError(t, err)
		r.line(string(line))
	}
	assert.Equal(t, []reason{
		{"p: TestA/b", "\ta_test.go:7:\n\tError:      \tReceived unexpected error:\n\tlock lost: no answer\n" +
			"\tTest:       \tTestA/b\n\tlog of the server\n\tlog of the server\n"},
		{"q", "\tpanic: oh\n"},
		{"r/s: TestBad", "\tbad\n"},
		{"r", "\tpanic: no\n"},
	}, r.reasons)
}

func TestReport_Status(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReport(3, false)
		r.line(`{"Action":"start","Package":"github.com/go-namedlock/namedlock"}`)
		r.line(`{"Action":"run","Package":"github.com/go-namedlock/namedlock/e2e","Test":"TestWaits"}`)
		r.line(`{"Action":"pause","Package":"github.com/go-namedlock/namedlock/e2e","Test":"TestWaits"}`)
		r.line(`{"Action":"run","Package":"github.com/go-namedlock/namedlock/e2e","Test":"TestLong"}`)
		time.Sleep(time.Minute)
		assert.Equal(t, "testing: 0 of 3 packages, 0 tests and subtests; running: namedlock, e2e (TestLong for 1m0s)", r.status())
	})
}

// A line is printed at least once in every interval.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		p := newProgress(&out)
		p.begin(func() string { return "works" })
		time.Sleep(interval + time.Second)
		p.print("a line\n")
		time.Sleep(interval - time.Second)
		synctest.Wait()
		p.end()
		assert.Equal(t, "-- 0s: works\n-- 15s: works\na line\n", out.String())
	})
}

func TestProgress_Run(t *testing.T) {
	p := newProgress(&strings.Builder{})
	defer p.end()
	var out, errs []string
	err := p.run(exec.Command("sh", "-c", "echo a; echo b >&2; printf c; exit 3"),
		func(line string) { out = append(out, line) }, func(line string) { errs = append(errs, line) })
	assert.EqualError(t, err, "exit status 3")
	assert.Equal(t, []string{"a\n", "c"}, out)
	assert.Equal(t, []string{"b\n"}, errs)
	nothing := func(string) {}
	assert.Error(t, p.run(exec.Command("/nosuch"), nothing, nothing))
}
