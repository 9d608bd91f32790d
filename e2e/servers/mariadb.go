package servers

import (
	"fmt"
	"os"
	"strings"
)

var mariadbFlavour = flavour{
	kind:       MariaDB,
	name:       "mariadbd",
	find:       findMariaDB,
	initialise: initialiseMariaDB,
	args:       mariadbArgs,
}

// findMariaDB looks only in $NAMEDLOCK_MARIADB_ROOT if that is set. Otherwise
// it looks among the system's programs.
func findMariaDB() (*program, error) {
	if root := os.Getenv("NAMEDLOCK_MARIADB_ROOT"); root != "" {
		if p := in(root, "mariadbd"); p != nil {
			return p, nil
		}
		return nil, &MissingError{Kind: MariaDB, Looked: []string{"mariadbd in $NAMEDLOCK_MARIADB_ROOT (" + root + ")"}}
	}
	if p := installed("mariadbd"); p != nil {
		return p, nil
	}
	return nil, &MissingError{Kind: MariaDB, Looked: []string{"mariadbd on PATH and in /usr/sbin", "$NAMEDLOCK_MARIADB_ROOT"}}
}

// initialiseMariaDB does the work of mariadb-install-db, without the help
// tables, and without the paths that the script contains.
func initialiseMariaDB(p *program, data string) error {
	var script strings.Builder
	script.WriteString("CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket=NULL, @skip_auth_anonymous='1';\n")
	for _, name := range []string{"system_tables.sql", "performance_tables.sql", "system_tables_data.sql"} {
		part, err := readScript(p, "mariadb_"+name, "mysql_"+name)
		if err != nil {
			return err
		}
		script.Write(part)
		script.WriteString("\n")
	}
	script.WriteString("CREATE DATABASE test;\n")

	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	return p.run(script.String(), append(mariadbArgs(p), "--bootstrap", "--datadir="+data, "--log-warnings=0",
		"--enforce-storage-engine=", "--max-allowed-packet=8M", "--net-buffer-length=16K")...)
}

func readScript(p *program, names ...string) ([]byte, error) {
	for _, name := range names {
		if share := p.share(name); share != "" {
			return os.ReadFile(share + "/" + name)
		}
	}
	return nil, fmt.Errorf("%s has no %s below %s", p.file, strings.Join(names, " or "), p.base)
}

// mariadbArgs returns options that trade durability for speed.
func mariadbArgs(*program) []string {
	return []string{
		"--max-connections=2000",
		"--innodb-buffer-pool-size=16M",
		"--innodb-log-file-size=8M",
		"--innodb-flush-log-at-trx-commit=0",
		"--innodb-doublewrite=OFF",
		"--innodb-use-native-aio=OFF",
		"--innodb-buffer-pool-load-at-startup=OFF",
		"--innodb-buffer-pool-dump-at-shutdown=OFF",
	}
}
