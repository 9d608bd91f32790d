package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/go-namedlock/namedlock/internal/names"
)

// A command may run other commands that take locks. Its environment lists the
// locks that it runs under:

// heldVariable has an inheritance in JSON, for namedlock only. It is valid
// while the keeper that wrote it is an ancestor of the reading process. An
// environment can outlive a lock, for example in a daemon, at(1) or a terminal
// multiplexer. The keeper of an outer run is an ancestor of the reading process
// as well as the inner one.
const heldVariable = "NAMEDLOCK_HELD"

// nameVariable has the names of these locks, one per line, for people.
// namedlock does not read it.
const nameVariable = "NAMEDLOCK_NAME"

const connectionVariable = "NAMEDLOCK_CONNECTION_ID"

// slotVariable has the number of the slot of the innermost run -slots.
const slotVariable = "NAMEDLOCK_SLOT"

type inheritance struct {
	Keeper  int     `json:"keeper"`
	Started string  `json:"started"` // the keeper
	Locks   []named `json:"locks"`
}

// A named is a lock on a server.
type named struct {
	Server string `json:"server"`
	Name   string `json:"name"`
}

// inherited returns the locks that this process runs under.
func inherited() (in inheritance) {
	if json.Unmarshal([]byte(os.Getenv(heldVariable)), &in) != nil || !under(in.Keeper, in.Started) {
		return inheritance{}
	}
	return in
}

// has reports whether a lock is among them. As in the library, names that
// differ only in letter case are one lock.
func (in inheritance) has(config *mysql.Config, name string) bool {
	return slices.ContainsFunc(in.Locks, func(l named) bool {
		return l.Server == address(config) && names.Fold(l.Name) == names.Fold(name)
	})
}

// slot returns which slot of the name is among them.
func (in inheritance) slot(config *mysql.Config, name string) (number int, has bool) {
	for _, l := range in.Locks {
		end := strings.LastIndexByte(l.Name, '#') + 1
		n, err := strconv.Atoi(l.Name[end:])
		if err == nil && l.Server == address(config) && names.Fold(l.Name) == names.Fold(names.Slot(name, n)) {
			return n, true
		}
	}
	return 0, false
}

// environment returns the variables for a command under the inherited locks and
// those of this keeper.
func (in inheritance) environment(keeper int, started string, config *mysql.Config, own []string) []string {
	in.Keeper, in.Started = keeper, started
	var all []string
	for _, l := range in.Locks {
		all = append(all, l.Name)
	}
	for _, name := range own {
		in.Locks = append(in.Locks, named{address(config), name})
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	text, _ := json.Marshal(in)
	return []string{nameVariable + "=" + strings.Join(all, "\n"), heldVariable + "=" + string(text)}
}

// address is the address of the server. A server with two addresses counts as
// two servers.
func address(config *mysql.Config) string {
	addr := config.Addr
	if host, port, err := net.SplitHostPort(addr); err == nil && (host == "127.0.0.1" || host == "::1") {
		addr = net.JoinHostPort("localhost", port)
	}
	return fmt.Sprintf("%s(%s)", cmp.Or(config.Net, "tcp"), addr)
}

// held reports by its exit code whether this process runs under the lock.
func held(_ context.Context, in *invocation) (int, error) {
	if len(in.args) != 1 {
		return 0, usagef("held takes exactly one lock name, got %d", len(in.args))
	}
	config, err := in.server.config()
	if err != nil {
		return 0, usageError{err}
	}
	if inherited().has(config, in.args[0]) {
		return exitOK, nil
	}
	return exitNobody, nil
}
