module github.com/go-namedlock/namedlock/goosenamedlock

go 1.25.0

replace github.com/go-namedlock/namedlock => ../

require (
	github.com/DATA-DOG/go-sqlmock v1.5.2
	github.com/go-namedlock/namedlock v0.1.0
	github.com/pressly/goose/v3 v3.27.0
	github.com/stretchr/testify v1.12.1
)

require (
	filippo.io/edwards25519 v1.2.0 // indirect
	github.com/go-sql-driver/mysql v1.10.1 // indirect
	github.com/mfridman/interpolate v0.0.2 // indirect
	github.com/sethvargo/go-retry v0.3.0 // indirect
	go.uber.org/multierr v1.11.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sync v0.19.0 // indirect
)
