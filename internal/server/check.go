package server

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock/internal/clock"
	"github.com/go-namedlock/namedlock/internal/fault"
)

// The questions whether a server's locks exclude. A server that is not such a
// node usually answers with an error, since the variable does not exist.
const (
	askGalera       = "@@wsrep_on"
	showClusterSize = "SHOW STATUS LIKE 'wsrep_cluster_size'"
	askGroup        = "@@group_replication_single_primary_mode"
	countPrimaries  = "SELECT COUNT(*) FROM performance_schema.replication_group_members WHERE MEMBER_STATE = 'ONLINE' AND MEMBER_ROLE = 'PRIMARY'"
)

// andCluster is an additional column of another question: 0 if the server is
// certainly not a node of a cluster. With it, most servers need no question of
// its own. MariaDB reads the first half of it, MySQL 8 and Percona XtraDB
// Cluster the second. Each takes the other half for a comment. No privilege is
// needed. Only MariaDB's variable may be missing, in a few builds.
const andCluster = " /*M! , @@wsrep_on */ /*!80000 , (SELECT COUNT(*) FROM information_schema.PLUGINS WHERE PLUGIN_NAME IN ('group_replication', 'wsrep')) */"

// A writability contains the answers to readOnlyColumns.
type writability struct{ readOnly, innodbReadOnly sql.NullString }

// readOnlyColumns ask whether the server can be written to. @@innodb_read_only
// alone shows a reader of Aurora, or a server that was started with it.
func (c *Conn) readOnlyColumns(w *writability) []column {
	columns := []column{{"@@read_only", &w.readOnly}}
	if !c.server.noInnoDB.Load() {
		columns = append(columns, column{innodbReadOnly, &w.innodbReadOnly})
	}
	return columns
}

const innodbReadOnly = "@@innodb_read_only"

// err returns an error if the server reported that it is read-only in any way.
func (w *writability) err() error {
	switch {
	case !isOff(w.readOnly.String):
		return errors.New("the server is read-only (@@read_only): a replica, or demoted in a failover")
	case w.innodbReadOnly.Valid && !isOff(w.innodbReadOnly.String):
		return errors.New("the server is read-only (@@innodb_read_only): a reader of Aurora")
	}
	return nil
}

// clusterQuestion returns a destination for the question whether the server may
// be in a cluster, which is asked within another question, or nil if it is not
// asked.
//
// It decides once, because the last verdict may become too old while the
// question is on its way. That no server is a node of a cluster holds for all
// connections of a pool. That a server is writable holds for one connection.
func (c *Conn) clusterQuestion() *sql.NullString {
	found := time.Duration(c.server.noCluster.Load())
	if !c.server.CheckServer || found != 0 && clock.Now()-found < c.server.KeepAlive {
		return nil
	}
	return new(sql.NullString)
}

// scanServer selects columns that describe the server, and the answer to
// cluster. If the server does not understand the question, scanServer asks for
// less.
func (c *Conn) scanServer(bound time.Duration, columns []column, cluster *sql.NullString) error {
	withCluster := cluster != nil
	for {
		texts, dest := split(columns)
		text := c.selecting(texts...)
		if withCluster && !c.asBytes {
			text += andCluster
			dest = append(dest, cluster)
		}
		err := c.scan(bound, text, dest...)
		switch {
		case isUnreadable(err) && !c.asBytes && c.greeting == nil:
			c.asBytes = true
		case !IsAnswer(err) || errorNumber(err) == erQueryInterrupted:
			return err
		case withCluster:
			withCluster = false // checkCluster asks then
		case c.lacksInnoDB(columns, err):
			columns = slices.DeleteFunc(slices.Clone(columns), isInnoDB)
		default:
			return err
		}
	}
}

func isInnoDB(c column) bool { return c.text == innodbReadOnly }

// lacksInnoDB reports whether err, the answer to a question for columns, is
// that of a server without @@innodb_read_only. No connection asks for it after
// that. The error names the variable. Its number is 1193 on MySQL and MariaDB,
// and 1105 on servers that imitate them.
func (c *Conn) lacksInnoDB(columns []column, err error) bool {
	lacks := IsAnswer(err) && slices.ContainsFunc(columns, isInnoDB) && strings.Contains(err.Error(), innodbReadOnly[2:])
	if lacks {
		c.server.noInnoDB.Store(true)
	}
	return lacks
}

// checkServer judges the server's answers. It returns an error that
// matches fault.ErrUnsupported if the server's locks do not exclude or do not
// last:
//
//   - TiDB and Vitess free locks under their holders.
//   - A read-only server is a replica, or was demoted in a failover.
//   - In a cluster, another node could grant the same lock at the same time.
func (c *Conn) checkServer(mode *writability, cluster *sql.NullString) error {
	begun := clock.Now()
	if err := c.greeting.lasting(); err != nil {
		return err
	}
	if err := mode.err(); err != nil {
		return fault.Because(fault.ErrReadOnly, err.Error()+"; its locks do not exclude clients of the primary: connect to the primary"+override, nil)
	}
	if cluster != nil {
		if cluster.String != "0" {
			if err := c.checkCluster(); err != nil {
				return err
			}
		}
		c.server.noCluster.Store(int64(begun))
	}
	c.greeting.checked = begun
	return nil
}

// checkAgain is checkServer for a session that was greeted before.
func (c *Conn) checkAgain() error {
	var mode writability
	cluster := c.clusterQuestion()
	if err := c.scanServer(AnswerTime, c.readOnlyColumns(&mode), cluster); err != nil {
		return c.refusedOr(err, "could not read @@read_only")
	}
	return c.checkServer(&mode, cluster)
}

// lasting returns an error if the server frees locks while their holders still
// run. (Tried: TiDB 8.4 and Vitess 24.)
func (g *greeting) lasting() error {
	switch {
	case strings.Contains(g.version.String, "TiDB"):
		return notExclusive("the server is TiDB, which silently frees a lock after max-txn-ttl (1 h by default), so two clients can hold it: use MySQL or MariaDB for locks")
	case strings.Contains(g.version.String, "Vitess"):
		return notExclusive(vitess)
	}
	return nil
}

const vitess = "the server is Vitess, which frees the lock of a session that is idle for 30 s: connect to a MySQL server directly"

// Confirm checks, after a lock was granted, that the server still excludes: it
// may have been demoted during the wait. If it was, the lock is released or the
// session is discarded, and the error says why.
//
// The answer to a wait contains this already, unless it is time to ask about a
// cluster again. After a poll the server is asked. If it does not answer,
// Confirm returns nil, and the session is broken.
func (c *Conn) Confirm(name string) (err error) {
	switch {
	case !c.server.CheckServer || c.greeting == nil:
		return nil
	case c.atGrant != nil && c.clusterQuestion() == nil:
		err = c.checkServer(c.atGrant, nil)
	default:
		err = c.checkAgain()
	}
	switch {
	case !errors.Is(err, fault.ErrUnsupported):
		return nil
	case !c.lent && c.locks == 1:
		_ = c.MarkBroken(err) // a new session may lead to another server
	default:
		_ = c.ReleaseLock(name) // if that fails, Put discards the session
	}
	return err
}

func (c *Conn) checkCluster() error {
	if c.greeting.galera() {
		return c.checkGalera()
	}
	return c.checkGroup()
}

func (c *Conn) checkGalera() error {
	on, err := c.variable(askGalera)
	if err != nil || !isOn(on) {
		return err
	}
	var name, size sql.NullString
	err = c.scan(AnswerTime, showClusterSize, &name, &size)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil // built for clusters, but in none
	case err != nil:
		return c.refusedOr(err, "could not read wsrep_cluster_size")
	case size.String != "0" && size.String != "1":
		return notExclusive(fmt.Sprintf("the server is one of %s Galera nodes, each of which grants locks independently: "+
			"use a server outside the cluster, or one node for all clients", size.String))
	}
	return nil
}

func (c *Conn) checkGroup() error {
	single, err := c.variable(askGroup)
	if err != nil || !isOff(single) {
		return err
	}
	var primaries sql.NullInt64
	err = c.scan(AnswerTime, countPrimaries, &primaries)
	switch {
	case IsAnswer(err):
		return notExclusive("the server is in a multi-primary replication group, whose members grant locks independently, " +
			"and this user cannot read performance_schema.replication_group_members: use a DSN that always reaches the same member")
	case err != nil:
		return c.MarkBroken(err)
	case primaries.Int64 > 1:
		return notExclusive(fmt.Sprintf("the server is one of %d primaries of a replication group, each of which grants locks independently: "+
			"use a DSN that always reaches the same member, use single-primary mode", primaries.Int64))
	}
	return nil
}

// variable returns the value of a variable, or "" if the server does not have
// it. MySQL and MariaDB then answer with error 1193, and servers that imitate
// them with any number. An interruption, a time limit and an error without a
// number are returned as errors: they say nothing about the variable.
func (c *Conn) variable(ask string) (string, error) {
	var value sql.NullString
	err := c.read(AnswerTime, nil, column{ask, &value})
	if err != nil && (!declined(err) || errors.As(err, new(otherAnswer))) {
		return "", c.refusedOr(err, "could not determine whether the server is in a cluster")
	}
	return value.String, nil
}

func notExclusive(text string) error {
	return fault.Because(fault.ErrUnsupported, text+override, nil)
}

const override = ", or override with WithoutServerCheck"

func isOn(value string) bool {
	return strings.EqualFold(value, "ON") || value == "1"
}

func isOff(value string) bool {
	return strings.EqualFold(value, "OFF") || value == "0"
}

// Ready checks that the server is suitable for locks, unless that was checked
// within the last interval. For a session in steady use this is the only check:
// it is not greeted again, and it holds no lock long enough for a proof.
func (c *Conn) Ready() error {
	switch {
	case c.greeting == nil && (c.server.CheckServer || c.server.Lease > 0):
		return c.Greet(AnswerTime) // the lent connection, at its first use
	case c.server.CheckServer && c.locks == 0 && clock.Now()-c.greeting.checked > c.Interval():
		return c.checkAgain()
	}
	return nil
}

// Check asks the server whether it is suitable for locks, by the same questions
// as before the first lock. The connection may have been greeted already.
func (c *Conn) Check() error {
	switch {
	case !c.lent, c.greeting == nil && c.locks == 0:
		if err := c.Greet(AnswerTime); err != nil {
			return err
		}
		return c.readLease()
	case c.greeting == nil:
		return c.greet()
	case c.server.CheckServer:
		return c.checkAgain()
	}
	return nil
}
