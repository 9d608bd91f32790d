package session

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// What tells whether a server's locks exclude. SHOW names those variables that
// the server knows, and needs no privilege.
const (
	showVariables   = "SHOW VARIABLES WHERE Variable_name IN ('read_only', 'wsrep_on', 'group_replication_single_primary_mode')"
	showClusterSize = "SHOW STATUS LIKE 'wsrep_cluster_size'"
	countPrimaries  = "SELECT COUNT(*) FROM performance_schema.replication_group_members WHERE MEMBER_STATE = 'ONLINE' AND MEMBER_ROLE = 'PRIMARY'"
)

// checkServer returns an error that matches fault.ErrUnsupported if another session,
// on another node, could be granted the same lock at the same time.
func (s *Session) checkServer() error {
	if !s.config.CheckServer {
		return nil
	}
	begun := time.Since(epoch)
	variables, err := s.settings(showVariables)
	if err != nil {
		return s.refusedOr(err, "the server refused to tell whether its locks exclude")
	}
	readOnly, known := variables["read_only"]
	s.server.watchReadOnly = known
	if known && !isOff(readOnly) {
		return notExclusive("the server is read-only, as replicas are, so its locks exclude nobody on the primary: connect to the primary")
	}
	if isOn(variables["wsrep_on"]) {
		status, err := s.settings(showClusterSize)
		if err != nil {
			return s.refusedOr(err, "the server refused to tell the size of its cluster")
		}
		if size := status["wsrep_cluster_size"]; size != "" && size != "0" && size != "1" {
			return notExclusive(fmt.Sprintf("the server is a node of a Galera cluster of %s, whose nodes grant a lock each for itself: "+
				"send all locks to one node, by a DSN of their own", size))
		}
	}
	if isOff(variables["group_replication_single_primary_mode"]) {
		var primaries sql.NullInt64
		if err := s.scan(answerTime, countPrimaries, &primaries); err != nil {
			if !isAnswer(err) {
				return s.distrust(err)
			}
			return notExclusive("the server is set up for Group Replication with several primaries, whose locks each member grants for itself, " +
				"and does not let this user see whether there are others (performance_schema.replication_group_members): send all locks to one member")
		}
		if primaries.Int64 > 1 {
			return notExclusive(fmt.Sprintf("the server is one of %d primaries of a replication group, which grant a lock each for itself: "+
				"send all locks to one member, or use single-primary mode", primaries.Int64))
		}
	}
	s.server.checked = begun
	return nil
}

func notExclusive(text string) error {
	return fault.Because(fault.ErrUnsupported, text+"; WithoutServerCheck overrides", nil)
}

// settings returns the rows of a SHOW statement, names in lower case.
func (s *Session) settings(show string) (map[string]string, error) {
	settings := make(map[string]string)
	err := s.query(answerTime, &statement{text: show}, nil, func(row []driver.Value) error {
		var name, value sql.NullString
		if len(row) != 2 {
			return nil // the end
		}
		if err := name.Scan(row[0]); err != nil {
			return err
		}
		if err := value.Scan(row[1]); err != nil {
			return err
		}
		settings[strings.ToLower(name.String)] = value.String
		return nil
	})
	return settings, err
}

func isOn(value string) bool {
	return strings.EqualFold(value, "ON") || value == "1"
}

func isOff(value string) bool {
	return strings.EqualFold(value, "OFF") || value == "0"
}
