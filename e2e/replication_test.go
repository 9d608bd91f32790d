package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock/e2e/servers"
)

// A replicationSet has several servers, one of which is the primary. Only one
// test uses it at a time, and each test finds it in its initial state.
type replicationSet struct {
	start func() ([]*server, error)                                     // the primary is the first
	heal  func(ctx context.Context, nodes []*server) ([]*server, error) // restores the initial state, without tables

	turn  sync.Mutex
	nodes []*server // nil: not started
}

var (
	semiSyncSet = &replicationSet{start: startSemiSync, heal: healSemiSync}
	groupSet    = &replicationSet{start: startGroup, heal: healGroup}
)

// borrow returns the servers of the set, the primary first. No other test uses
// them until this test ends.
func (r *replicationSet) borrow(t *testing.T) []*server {
	t.Helper()
	r.turn.Lock()
	t.Cleanup(r.turn.Unlock)
	if r.nodes == nil {
		var err error
		if r.nodes, err = r.start(); err != nil {
			servers.SkipOrFail(t, err)
		}
	}
	nodes := r.nodes
	t.Cleanup(func() {
		if t.Failed() {
			for _, node := range nodes {
				t.Logf("log of %s at %s:\n%s", node.Version(), node.Server.Addr(), node.Log())
			}
		}
		ctx, cancel := context.WithTimeout(background, 2*patience)
		defer cancel()
		var err error
		if r.nodes, err = r.heal(ctx, nodes); err != nil {
			r.nodes = nil
			t.Logf("the replication set is not used again: %v", errors.Join(err, stopAll(nodes)))
		}
	})
	return nodes
}

func stopAll(nodes []*server) error {
	var errs []error
	for _, node := range nodes {
		errs = append(errs, node.Stop())
	}
	return errors.Join(errs...)
}

func stopReplicationSets() error {
	return errors.Join(stopAll(semiSyncSet.nodes), stopAll(groupSet.nodes))
}

// startNodes starts n servers at the same time. If it returns an error, none is
// running.
func startNodes(n int, start func(i int) (*servers.Server, error)) ([]*server, error) {
	nodes, errs := make([]*server, n), make([]error, n)
	var starting sync.WaitGroup
	for i := range n {
		starting.Go(func() {
			var s *servers.Server
			if s, errs[i] = start(i); errs[i] == nil {
				nodes[i], errs[i] = direct(s)
			}
		})
	}
	starting.Wait()
	err := errors.Join(errs...)
	if err == nil {
		return nodes, nil
	}
	for _, node := range nodes {
		if node != nil {
			err = errors.Join(err, node.Stop())
		}
	}
	return nil, err
}

// run runs statements one after the other.
func (s *server) run(ctx context.Context, statements ...string) error {
	for _, statement := range statements {
		if _, err := s.admin.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// revive starts or resumes each server that was stopped or killed.
func revive(nodes []*server) {
	for _, node := range nodes {
		_ = node.Resume()  // an error if the server has ended
		_ = node.Restart() // an error if the server is running
	}
}

// until polls until the condition holds or ctx ends.
func until(ctx context.Context, what string, condition func() bool) error {
	for !condition() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("did not happen: %s: %w", what, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// startSemiSync returns a primary and its replica. The replica has each
// transaction before the client gets the answer to its COMMIT.
func startSemiSync() ([]*server, error) {
	nodes, err := startNodes(2, func(i int) (*servers.Server, error) {
		return servers.Start(servers.MariaDB, servers.WithArgs(showLocks...), servers.WithArgs("--log-bin", "--log-slave-updates",
			fmt.Sprint("--server-id=", i+1), "--sync-binlog=0", "--rpl-semi-sync-master-wait-point=AFTER_SYNC", "--rpl-semi-sync-master-timeout=60000"))
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(background, patience)
	defer cancel()
	whole, err := healSemiSync(ctx, nodes)
	if err != nil {
		return nil, errors.Join(err, stopAll(nodes))
	}
	return whole, nil
}

// healSemiSync makes the first server the primary and the second its replica,
// both without tables.
func healSemiSync(ctx context.Context, nodes []*server) ([]*server, error) {
	revive(nodes)
	for _, node := range nodes {
		err := node.run(ctx,
			"SET GLOBAL rpl_semi_sync_master_enabled = OFF", // ends sessions' waits for a replica
			"STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL rpl_semi_sync_slave_enabled = OFF", "SET GLOBAL read_only = OFF",
			"DROP TABLE IF EXISTS ledger", "RESET MASTER", "SET GLOBAL gtid_slave_pos = ''")
		if err != nil {
			return nil, err
		}
	}
	primary, replica := nodes[0], nodes[1]
	_, port, _ := strings.Cut(primary.Server.Addr(), ":")
	err := errors.Join(
		primary.run(ctx, "SET GLOBAL rpl_semi_sync_master_enabled = ON"),
		replica.run(ctx, "SET GLOBAL rpl_semi_sync_slave_enabled = ON", "SET GLOBAL read_only = ON",
			"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT="+port+", MASTER_USER='root', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1", "START SLAVE"),
	)
	if err != nil {
		return nil, err
	}
	return nodes, until(ctx, "the replica follows", func() bool {
		var variable, clients string
		err := primary.admin.QueryRowContext(ctx, "SHOW STATUS LIKE 'Rpl_semi_sync_master_clients'").Scan(&variable, &clients)
		return err == nil && clients == "1"
	})
}

// groupSource sets the user as which a member fetches the transactions that it
// has missed.
const groupSource = "CHANGE REPLICATION SOURCE TO SOURCE_USER='root' FOR CHANNEL 'group_replication_recovery'"

// startGroup returns the three members of a replication group with a single
// primary.
func startGroup() ([]*server, error) {
	var seeds []string
	for range 3 {
		port, err := servers.FreePort()
		if err != nil {
			return nil, err
		}
		seeds = append(seeds, fmt.Sprintf("127.0.0.1:%d", port))
	}
	nodes, err := startNodes(len(seeds), func(i int) (*servers.Server, error) {
		return servers.Start(servers.MySQL, servers.WithArgs(
			"--log-bin=binlog",
			fmt.Sprintf("--server-id=%d", i+1),
			"--gtid-mode=ON",
			"--enforce-gtid-consistency=ON",
			"--report-host=127.0.0.1",
			"--plugin-load-add=group_replication.so",
			"--loose-group-replication-group-name=8a94f357-aab4-11df-86ab-c80aa9429573",
			"--loose-group-replication-start-on-boot=OFF",
			"--loose-group-replication-local-address="+seeds[i],
			"--loose-group-replication-group-seeds="+strings.Join(seeds, ","),
			"--loose-group-replication-recovery-get-public-key=ON",
			"--loose-group-replication-single-primary-mode=ON",
			"--loose-group-replication-member-expel-timeout=0",
			"--loose-group-replication-consistency=BEFORE_ON_PRIMARY_FAILOVER"))
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(background, 2*patience)
	defer cancel()
	first := nodes[0]
	var plugins int
	err = first.admin.QueryRowContext(ctx,
		"SELECT COUNT(*) FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'group_replication' AND PLUGIN_STATUS = 'ACTIVE'").Scan(&plugins)
	if err == nil && plugins == 0 {
		err = &servers.MissingError{Kind: servers.MySQL, Why: "it has no plugin group_replication"}
	}
	for _, node := range nodes {
		err = errors.Join(err, node.run(ctx, groupSource))
	}
	err = errors.Join(err, first.run(ctx, "SET GLOBAL group_replication_bootstrap_group = ON", "START GROUP_REPLICATION", "SET GLOBAL group_replication_bootstrap_group = OFF"))
	if err == nil {
		nodes, err = healGroup(ctx, nodes)
	}
	if err != nil {
		return nil, errors.Join(err, stopAll(nodes))
	}
	return nodes, nil
}

// healGroup makes all servers members again, without tables.
func healGroup(ctx context.Context, nodes []*server) ([]*server, error) {
	revive(nodes)
	// A member that was stopped for a while reports itself as online until it
	// detects its state.
	err := until(ctx, "all members are online", func() bool {
		whole := true
		for _, node := range nodes {
			var online, member int
			err := node.admin.QueryRowContext(ctx, `SELECT COALESCE(SUM(MEMBER_STATE = 'ONLINE'), 0),
				COALESCE(SUM(MEMBER_ID = @@server_uuid AND MEMBER_STATE NOT IN ('OFFLINE', 'ERROR')), 0)
				FROM performance_schema.replication_group_members`).Scan(&online, &member)
			whole = whole && err == nil && online == len(nodes)
			if err == nil && member == 0 {
				_ = node.run(ctx, "STOP GROUP_REPLICATION")
				_ = node.run(ctx, "START GROUP_REPLICATION")
			}
		}
		return whole
	})
	if err != nil {
		return nodes, err
	}
	var primary string
	err = nodes[0].admin.QueryRowContext(ctx, "SELECT MEMBER_PORT FROM performance_schema.replication_group_members WHERE MEMBER_ROLE = 'PRIMARY'").Scan(&primary)
	at := slices.IndexFunc(nodes, func(node *server) bool { return strings.HasSuffix(node.Server.Addr(), ":"+primary) })
	if err != nil || at < 0 {
		return nodes, errors.Join(fmt.Errorf("the primary is at port %q", primary), err)
	}
	nodes = slices.Clone(nodes)
	nodes[0], nodes[at] = nodes[at], nodes[0]
	return nodes, nodes[0].run(ctx, "DROP TABLE IF EXISTS test.ledger")
}
