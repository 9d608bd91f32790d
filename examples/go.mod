module github.com/go-namedlock/namedlock/examples

go 1.25.0

replace (
	github.com/go-namedlock/namedlock => ../
	github.com/go-namedlock/namedlock/e2e => ../e2e
)

require (
	github.com/go-namedlock/namedlock v0.1.0
	github.com/go-namedlock/namedlock/e2e v0.1.0
	github.com/go-sql-driver/mysql v1.10.1
	github.com/stretchr/testify v1.12.1
)

require (
	filippo.io/edwards25519 v1.2.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.47.0 // indirect
)
