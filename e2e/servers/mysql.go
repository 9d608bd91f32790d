package servers

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

var mysqlFlavour = flavour{
	kind:       MySQL,
	name:       "mysqld",
	find:       findMySQL,
	initialise: initialiseMySQL,
	args:       mysqlArgs,
}

// findMySQL looks only in $NAMEDLOCK_MYSQL_ROOT if that is set. Otherwise it
// looks in the folder of fetch.sh, and among the system's programs.
func findMySQL() (*program, error) {
	if root := os.Getenv("NAMEDLOCK_MYSQL_ROOT"); root != "" {
		if p := in(root, "mysqld"); p != nil {
			return p, nil
		}
		return nil, &MissingError{Kind: MySQL, Looked: []string{"mysqld in $NAMEDLOCK_MYSQL_ROOT (" + root + ")"}}
	}

	var looked []string
	if cache, err := cacheDir(); err == nil {
		root := filepath.Join(cache, "mysql")
		if p := in(root, "mysqld"); p != nil {
			return p, nil
		}
		looked = append(looked, "mysqld in "+root)
	}
	if p := installed("mysqld"); p != nil && !isMariaDB(p) {
		return p, nil
	}
	return nil, &MissingError{Kind: MySQL, Looked: append(looked, "a mysqld that is not MariaDB's on PATH", "$NAMEDLOCK_MYSQL_ROOT")}
}

// isMariaDB reports whether p is MariaDB, which also installs itself under the
// name mysqld.
func isMariaDB(p *program) bool {
	out, err := exec.Command(p.file, "--no-defaults", "--version").Output()
	return err != nil || strings.Contains(strings.ToLower(string(out)), "mariadb")
}

func initialiseMySQL(p *program, data string) error {
	init := data + ".sql"
	if err := os.WriteFile(init, []byte("CREATE DATABASE test;\n"), 0o600); err != nil {
		return err
	}
	defer os.Remove(init)
	if err := p.run("", append(mysqlArgs(p), "--initialize-insecure", "--datadir="+data, "--init-file="+init)...); err != nil {
		return err
	}
	// The file contains the server's unique id. Each copy makes its own.
	return os.Remove(filepath.Join(data, "auto.cnf"))
}

// mysqlArgs returns options that trade durability for speed.
func mysqlArgs(*program) []string {
	return []string{
		"--skip-log-bin",
		"--loose-mysqlx=OFF",
		"--secure-file-priv=NULL",
		"--max-connections=2000",
		"--innodb-buffer-pool-size=32M",
		"--loose-innodb-redo-log-capacity=32M",
		"--innodb-flush-log-at-trx-commit=0",
		"--loose-innodb-doublewrite=OFF",
		"--innodb-use-native-aio=OFF",
		"--innodb-buffer-pool-load-at-startup=OFF",
		"--innodb-buffer-pool-dump-at-shutdown=OFF",
	}
}
