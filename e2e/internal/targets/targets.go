// Package targets lists what the end-to-end tests run on.
package targets

import (
	"fmt"
	"os"

	"github.com/go-namedlock/namedlock/e2e/servers"
)

// A Target is a server or two, and what stands before them.
type Target struct {
	Name    string
	Kinds   []servers.Kind
	Version string       // of the servers; "": the one that tests have by default
	Proxy   servers.Kind // before each server; "": none
	Running string       // the DSN of a server that runs already, the only one; "": servers are started
	Skip    string       // matches the tests that say nothing there
	Why     string       // they do not
}

// Default is MySQL in its newest version, and MariaDB as the system has it.
var Default = Target{Name: "default", Kinds: []servers.Kind{servers.MySQL, servers.MariaDB}}

// Others are the rest of the matrix.
var Others = []Target{
	{Name: "mariadb-10.5", Kinds: []servers.Kind{servers.MariaDB}, Version: "10.5"},
	{Name: "mariadb-11.8", Kinds: []servers.Kind{servers.MariaDB}, Version: "11.8"},
	{Name: "haproxy", Kinds: []servers.Kind{servers.MySQL, servers.MariaDB}, Proxy: servers.HAProxy},
	{Name: "mysql-router", Kinds: []servers.Kind{servers.MySQL}, Proxy: servers.Router},
	{Name: "mysql-router-sharing", Kinds: []servers.Kind{servers.MySQL}, Proxy: servers.RouterSharing,
		Skip: "KillUnderTLS|InitConnect", Why: "connections are shared without TLS here, and Router sets back what init_connect has set"},
	{Name: "mysql-router-pool", Kinds: []servers.Kind{servers.MySQL}, Proxy: servers.RouterPool},
}

// On is the target that $NAMEDLOCK_TARGET names, or the server that runs at
// $NAMEDLOCK_DSN.
func On() (Target, error) {
	name, dsn := os.Getenv("NAMEDLOCK_TARGET"), os.Getenv(servers.DSNVariable)
	switch {
	case dsn != "" && name != "":
		return Target{}, fmt.Errorf("NAMEDLOCK_TARGET and %s are set: only one of them can say what the tests run on", servers.DSNVariable)
	case dsn != "":
		s, err := servers.Attach(dsn)
		if err != nil {
			return Target{}, fmt.Errorf("%s: %w", servers.DSNVariable, err)
		}
		return Target{Name: "running", Kinds: []servers.Kind{s.Kind()}, Running: dsn}, nil
	case name == "":
		return Default, nil
	}
	for _, t := range Others {
		if t.Name == name {
			return t, nil
		}
	}
	return Target{}, fmt.Errorf("NAMEDLOCK_TARGET: there is no target %q", name)
}
