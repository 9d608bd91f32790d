package otelnamedlock_test

import (
	"database/sql"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/otelnamedlock"
)

// The code that docs/GUIDE.md shows. It is compiled, not run.
func _(db *sql.DB) (*namedlock.Locker, error) {
	locker, err := namedlock.Open(db, otelnamedlock.WithTelemetry(otelnamedlock.WithAttributes(semconv.ServerAddress("db.internal"))))
	return locker, err
}
