module github.com/go-namedlock/namedlock/e2e/cron

go 1.25.0

replace (
	github.com/go-namedlock/namedlock => ../../
	github.com/go-namedlock/namedlock/e2e => ../
	github.com/go-namedlock/namedlock/gocronnamedlock => ../../gocronnamedlock
	github.com/go-namedlock/namedlock/goosenamedlock => ../../goosenamedlock
	github.com/go-namedlock/namedlock/otelnamedlock => ../../otelnamedlock
)

require (
	github.com/go-co-op/gocron/v2 v2.21.2
	github.com/go-namedlock/namedlock v0.1.0
	github.com/go-namedlock/namedlock/e2e v0.1.0
	github.com/go-namedlock/namedlock/gocronnamedlock v0.1.0
	github.com/go-sql-driver/mysql v1.10.1
	github.com/golang-migrate/migrate/v4 v4.19.1
	github.com/jonboulle/clockwork v0.5.0
	github.com/robfig/cron/v3 v3.0.1
	github.com/stretchr/testify v1.12.1
)

require (
	filippo.io/edwards25519 v1.2.0 // indirect
	github.com/google/uuid v1.6.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.47.0 // indirect
)
