// Package real starts a real server, for examples that need tables.
package real

import (
	"errors"
	"fmt"

	"github.com/go-namedlock/namedlock/e2e/servers"
)

// Start starts a MariaDB, or a MySQL where there is none on the machine. Stop
// ends it.
func Start() (*servers.Server, error) {
	s, err := servers.Start(servers.MariaDB)
	if errors.As(err, new(*servers.MissingError)) {
		s, err = servers.Start(servers.MySQL)
	}
	if err != nil {
		return nil, fmt.Errorf("%w; or give it the -dsn of a server", err)
	}
	return s, nil
}
