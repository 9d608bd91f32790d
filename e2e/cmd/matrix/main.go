// Command matrix runs the core of the end-to-end tests, one test for each
// promise, on servers that the tests do not use by default, and through
// proxies. servers/fetch.sh --all installs them.
//
//	go run -C e2e ./cmd/matrix [-all] [-tests file] [target ...]
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-namedlock/namedlock/e2e/internal/targets"
)

// core has a test for each promise that the conformance kit does not cover, or
// two tests if a server could break one half of a promise. The kit runs in
// addition to them.
var core = []string{
	"01_BadArgumentsCostNoSQL",
	"02_TryOnceWhileOthersWait", "02_MoreNamesThanSessions",
	"03_WaitIsExact", "03_NestedWaitIsExact",
	"05_NextInLineKeepsThePlace",
	"06_ShortReadTimeout",
	"07_KilledQueryIsErrInterrupted", "07_KilledConnectionGoesOnWaiting", "07_ServerGoesAndComesBack",
	"08_DeadlockBetweenLockers",
	"09_FoldIsAsCoarseAsTheServer",
	"11_KillIsNoticedAtOnce", "11_SilentNetworkIsALoss", "11_ReleasedBehindItsBack",
	"12_IdleLockOutlivesWaitTimeout",
	"13_NeverReconnectsUnderALock",
	"14_HolderIsToldBeforeAnotherHasTheLock", "14_WaitTimeoutIsSetBack",
	"15_ReleasedHoweverFnEnds",
	"16_FailedReleaseDiscardsTheConnection", "16_LeakedLockIsNotReentered",
	"19_AConnectionGoesBackAsItCame",
	"20_OuterLockSurvivesNestedWaits",
	"21_SixtyFourCharacters", "21_EveryCharacterSet",
	"22_DemotedDuringTheWait",
	"23_PlainStatements",
	"24_NothingStaysPrepared",
	"25_NoIncrementIsLost",
	"26_KilledTransaction",
	"27_Rollback",
	"28_CommitCutOff",
	"29_SessionOfItsOwn",
	"30_LocksNestInTheTransaction",
	"31_CutOff",
	"32_KeepAliveBesideRows",
	"33_StatementsThatCommit",
	"42_EndedUnderItsCode",
	"43_LocksByHand",
	"48_EveryCallOfAService",
	"49_NothingIsCommittedAfterALoss",
	"50_NeverMoreThanN",
}

// atOnce is how many targets run at the same time. The tests wait most of the
// time.
const atOnce = 2

func main() {
	all := flag.Bool("all", false, "run all tests of promises, not only the core")
	tests := flag.String("tests", "", "the file that go test -c has made of the end-to-end tests; by default it is made")
	flag.Parse()
	if err := run(*all, *tests, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(1)
	}
}

func run(all bool, tests string, names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(targets.Others, func(t targets.Target) bool { return t.Name == name }) {
			return fmt.Errorf("there is no target %q", name)
		}
	}
	if tests == "" {
		folder, err := os.MkdirTemp("", "namedlock-matrix-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(folder)
		tests = filepath.Join(folder, "tests")
		build := exec.Command("go", "test", "-race", "-c", "-o", tests, ".")
		build.Stdout, build.Stderr = os.Stdout, os.Stderr
		if err := build.Run(); err != nil {
			return err
		}
	}
	if err := complete(tests); err != nil {
		return err
	}
	signal.Notify(make(chan os.Signal, 1), os.Interrupt) // an interrupt also reaches the tests

	pattern := "^(TestConformance|TestPromise(" + strings.Join(core, "|") + "))$"
	if all {
		pattern = "^TestPromise"
	}
	var running sync.WaitGroup
	var mu sync.Mutex // guards failed
	var failed []string
	turns := make(chan struct{}, atOnce)
	for _, t := range targets.Others {
		if len(names) > 0 && !slices.Contains(names, t.Name) {
			continue
		}
		turns <- struct{}{}
		running.Go(func() {
			defer func() { <-turns }()
			if passes(tests, pattern, t) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			failed = append(failed, t.Name)
		})
	}
	running.Wait()
	if len(failed) > 0 {
		return fmt.Errorf("failed on: %s", strings.Join(failed, ", "))
	}
	return nil
}

// complete returns an error if a test of the core does not exist.
func complete(tests string) error {
	out, err := exec.Command(tests, "-test.list", "^TestPromise").Output()
	if err != nil {
		return err
	}
	there := strings.Fields(string(out))
	for _, name := range core {
		if !slices.Contains(there, "TestPromise"+name) {
			return fmt.Errorf("there is no TestPromise%s", name)
		}
	}
	return nil
}

// passes runs the tests on one target, and prints their output if they fail.
func passes(tests, pattern string, t targets.Target) bool {
	args := []string{"-test.run", pattern, "-test.timeout=15m"}
	if t.Skip != "" {
		args = append(args, "-test.skip", t.Skip)
	}
	cmd := exec.Command(tests, args...)
	cmd.Env = append(os.Environ(), "NAMEDLOCK_TARGET="+t.Name, "NAMEDLOCK_REQUIRE_SERVERS=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	begun := time.Now()
	err := cmd.Run()
	took := time.Since(begun).Round(time.Second)
	if err != nil {
		fmt.Printf("%s\nFAIL %s in %v: %v\n", out.Bytes(), t.Name, took, err)
		return false
	}
	fmt.Printf("ok   %s in %v\n", t.Name, took)
	return true
}
