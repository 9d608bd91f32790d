package e2e

import (
	"database/sql"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// galeraProvider returns the path of the library that makes a cluster of
// MariaDB servers.
func galeraProvider(t *testing.T) string {
	t.Helper()
	for _, tool := range []string{"rsync", "socat"} {
		if _, err := exec.LookPath(tool); err != nil {
			servers.Missing(t, fmt.Sprintf("Galera needs %s; on a Debian-like machine run as root: e2e/servers/fetch.sh --galera", tool))
		}
	}
	for _, pattern := range []string{"/usr/lib*/galera*/libgalera_smm.so", "/usr/lib/*/galera*/libgalera_smm.so"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0]
		}
	}
	servers.Missing(t, "Galera is not on this machine; on a Debian-like machine run as root: e2e/servers/fetch.sh --galera")
	return ""
}

func freePorts(t *testing.T, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		var err error
		ports[i], err = servers.FreePort()
		require.NoError(t, err)
	}
	return ports
}

// asServer wraps a server for use like the shared ones.
func asServer(t *testing.T, s *servers.Server) *server {
	t.Helper()
	own, err := direct(s)
	require.NoError(t, err)
	t.Cleanup(func() { own.admin.Close() })
	return own
}

// requireNodesGrantEach shows why a cluster is refused: each node grants the
// same name.
func requireNodesGrantEach(t *testing.T, nodes ...*server) {
	t.Helper()
	name := newName("cluster")
	for _, node := range nodes {
		node.foreign(t).lock(name) // at the same time
	}
}

// requireRefused checks that Lockers refuse a node, with the reason and the
// remedy in the error, except with WithoutServerCheck.
func requireRefused(t *testing.T, node *server, why ...string) {
	t.Helper()
	for _, way := range []string{byOpen, byNew} {
		at, name := setup{node, way}, newName("refused")
		for _, timeout := range []time.Duration{0, time.Second, namedlock.Forever} {
			err := at.locker(t).WithLock(t.Context(), name, timeout, unexpected(t))
			requireError(t, err, namedlock.ErrUnsupported, name)
			for _, text := range append(why, "WithoutServerCheck") {
				assert.ErrorContains(t, err, text)
			}
		}
		require.ErrorIs(t, at.locker(t).Check(t.Context()), namedlock.ErrUnsupported)
		assert.Zero(t, node.foreign(t).holder(name))
		requireUsable(t, at.locker(t, namedlock.WithoutServerCheck()))
	}
}

// A Galera cluster of one node excludes. A cluster of two nodes does not.
func TestPromise22_GaleraClusterIsRefused(t *testing.T) {
	t.Parallel()
	provider := galeraProvider(t)
	ports := freePorts(t, 6)
	start := func(own, other []int, more ...string) *server {
		t.Helper()
		return asServer(t, servers.ForTest(t, servers.MariaDB,
			servers.WithUser("mysql"), // rsync drops root's privileges
			servers.WithArgs(append([]string{
				"--wsrep-on=ON",
				"--wsrep-provider=" + provider,
				"--binlog-format=ROW",
				"--wsrep-sst-method=rsync",
				"--wsrep-node-address=127.0.0.1",
				fmt.Sprintf("--wsrep-cluster-address=gcomm://127.0.0.1:%d", other[0]),
				fmt.Sprintf("--wsrep-provider-options=base_port=%d;gmcast.listen_addr=tcp://127.0.0.1:%d;ist.recv_addr=127.0.0.1:%d;gcache.size=8M", own[0], own[0], own[1]),
				fmt.Sprintf("--wsrep-sst-receive-address=127.0.0.1:%d", own[2]),
			}, more...)...)))
	}
	ready := func(node *server, size string) {
		t.Helper()
		eventually(t, func() bool {
			return node.status(t, "wsrep_ready") == "ON" && node.status(t, "wsrep_cluster_size") == size
		}, "a cluster of %s nodes", size)
	}

	first := start(ports[:3], ports[3:], "--wsrep-new-cluster")
	ready(first, "1")
	var known []*locker
	for _, way := range []string{byOpen, byNew} {
		l := setup{first, way}.locker(t, namedlock.WithKeepAlive(calm()))
		requireUsable(t, l)
		known = append(known, l)
	}
	second := start(ports[3:], ports[:3])
	ready(first, "2")
	ready(second, "2")
	<-time.After(calm())
	for _, l := range known { // they checked a cluster of one node
		name := newName("grown")
		requireError(t, l.WithLock(t.Context(), name, 0, unexpected(t)), namedlock.ErrUnsupported, name)
	}
	requireNodesGrantEach(t, first, second)
	requireRefused(t, first, "Galera")
	requireRefused(t, second, "Galera")
}

// status returns a status variable of the server, or "" if it cannot be read.
func (s *server) status(t *testing.T, name string) string {
	t.Helper()
	var variable, value string
	err := s.admin.QueryRowContext(background, "SHOW STATUS LIKE '"+name+"'").Scan(&variable, &value)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return ""
	}
	return value
}

// A MySQL replication group in which every member is a primary does not
// exclude. In single-primary mode the primary excludes, and the other members
// are read-only.
func TestPromise22_MultiPrimaryGroupIsRefused(t *testing.T) {
	t.Parallel()
	nodes := groupSet.borrow(t)
	first, second := nodes[0], nodes[1]
	primaries := func(on *server, want int) {
		t.Helper()
		eventually(t, func() bool {
			var n int
			err := on.admin.QueryRowContext(background, `SELECT COUNT(*) FROM performance_schema.replication_group_members
				WHERE MEMBER_STATE = 'ONLINE' AND MEMBER_ROLE = 'PRIMARY'`).Scan(&n)
			return err == nil && n == want
		}, "a group of %d primaries", want)
	}

	first.mustRun(t, "SELECT group_replication_switch_to_multi_primary_mode()")
	for _, node := range nodes[1:] {
		node.mustRun(t, "STOP GROUP_REPLICATION")
	}
	primaries(first, 1)
	for _, way := range []string{byOpen, byNew} {
		requireUsable(t, setup{first, way}.locker(t)) // the only primary excludes
	}
	for _, node := range nodes[1:] {
		node.mustRun(t, "START GROUP_REPLICATION")
	}
	primaries(first, len(nodes))
	primaries(second, len(nodes))
	requireNodesGrantEach(t, first, second)
	requireRefused(t, first, "primaries")
	requireRefused(t, second, "primaries")

	// An account without access to the group's tables is also refused.
	first.mustRun(t, "CREATE USER nobody", "GRANT ALL ON test.* TO nobody")
	db, err := openDB(strings.Replace(first.DSN(), "root@", "nobody@", 1))
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	name := newName("blind")
	requireError(t, setup{first, byOpen}.lockerOn(t, db).WithLock(t.Context(), name, 0, unexpected(t)), namedlock.ErrUnsupported, name)

	first.mustRun(t, "DROP USER nobody", "SELECT group_replication_switch_to_single_primary_mode()")
	primaries(first, 1)
	refused := 0
	for _, node := range nodes {
		for _, way := range []string{byOpen, byNew} {
			err := setup{node, way}.locker(t).WithLock(t.Context(), name, 0, nothing)
			if err != nil {
				requireError(t, err, namedlock.ErrUnsupported, name)
				assert.ErrorContains(t, err, "read-only")
				refused++
			}
		}
	}
	assert.Equal(t, 2*(len(nodes)-1), refused, "by each way, the members that are not the primary")
}
