// Package targets lists the targets of the end-to-end tests.
package targets

import (
	"fmt"
	"os"

	"github.com/go-namedlock/namedlock/e2e/servers"
)

// A Target is one or two servers, and a proxy in front of them.
type Target struct {
	Name    string
	Kinds   []servers.Kind
	Version string       // of the servers; "": the default version of the tests
	Proxy   servers.Kind // in front of each server; "": none
	// The DSN of the only server, which is running already; "": servers are
	// started.
	Running string
	Skip    string // matches the tests that have no meaning on this target
	Why     string // the reason for Skip
}

// Default is MySQL in its newest version, and MariaDB in the version of the
// system.
var Default = Target{Name: "default", Kinds: []servers.Kind{servers.MySQL, servers.MariaDB}}

// Others lists the rest of the matrix.
var Others = []Target{
	{Name: "mariadb-10.5", Kinds: []servers.Kind{servers.MariaDB}, Version: "10.5"},
	{Name: "mariadb-11.8", Kinds: []servers.Kind{servers.MariaDB}, Version: "11.8"},
	{Name: "haproxy", Kinds: []servers.Kind{servers.MySQL, servers.MariaDB}, Proxy: servers.HAProxy},
	{Name: "mysql-router", Kinds: []servers.Kind{servers.MySQL}, Proxy: servers.Router},
	{Name: "mysql-router-sharing", Kinds: []servers.Kind{servers.MySQL}, Proxy: servers.RouterSharing,
		Skip: "KillUnderTLS|InitConnect", Why: "connections are shared without TLS here, and Router sets back what init_connect has set"},
	{Name: "mysql-router-pool", Kinds: []servers.Kind{servers.MySQL}, Proxy: servers.RouterPool},
}

// On returns the target that $NAMEDLOCK_TARGET names, or the running server at
// $NAMEDLOCK_DSN.
func On() (Target, error) {
	name, dsn := os.Getenv("NAMEDLOCK_TARGET"), os.Getenv(servers.DSNVariable)
	switch {
	case dsn != "" && name != "":
		return Target{}, fmt.Errorf("NAMEDLOCK_TARGET and %s are both set: unset one of them", servers.DSNVariable)
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
