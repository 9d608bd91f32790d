package wrappers

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"sync"
	"testing"

	"contrib.go.opencensus.io/integrations/ocsql"
	ddsql "github.com/DataDog/dd-trace-go/contrib/database/sql/v2"
	"github.com/DataDog/dd-trace-go/v2/ddtrace/mocktracer"
	xsam "github.com/XSAM/otelsql"
	"github.com/go-sql-driver/mysql"
	"github.com/luna-duclos/instrumentedsql"
	"github.com/newrelic/go-agent/v3/newrelic"
	"github.com/ngrok/sqlmw"
	sqldblogger "github.com/simukti/sqldb-logger"
	uptrace "github.com/uptrace/opentelemetry-go-extra/otelsql"
	nhat "go.nhat.io/otelsql"
	opencensus "go.opencensus.io/trace"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	// The driver would log every session that is killed.
	_ = mysql.SetLogger(&mysql.NopLogger{})
	m.Run()
}

// A wrapper is one that services use around the driver.
type wrapper struct {
	module string // as go.mod names it
	open   func(t *testing.T, dsn string, trace *trace) *sql.DB
	unwrap func(driver.Conn) driver.Conn // for WithUnwrap; nil: not needed
	said   string                        // the text of unwrap on the page
}

var known = []wrapper{
	{
		module: "github.com/XSAM/otelsql",
		open: func(t *testing.T, dsn string, trace *trace) *sql.DB {
			return xsam.OpenDB(connector(t, dsn), xsam.WithTracerProvider(trace.otel(t)))
		},
	},
	{
		module: "github.com/DataDog/dd-trace-go/contrib/database/sql/v2",
		open: func(t *testing.T, dsn string, trace *trace) *sql.DB {
			tracer := mocktracer.Start()
			t.Cleanup(tracer.Stop)
			trace.more = func() (texts []string) {
				for _, span := range tracer.FinishedSpans() {
					texts = append(texts, fmt.Sprint(span.Tag("resource.name")))
				}
				return texts
			}
			ddsql.Register("mysql", &mysql.MySQLDriver{})
			return ddsql.OpenDB(connector(t, dsn))
		},
	},
	{
		module: "github.com/simukti/sqldb-logger",
		open: func(t *testing.T, dsn string, trace *trace) *sql.DB {
			return sqldblogger.OpenDriver(dsn, &mysql.MySQLDriver{}, logger{trace})
		},
	},
	{
		module: "github.com/uptrace/opentelemetry-go-extra/otelsql",
		open: func(t *testing.T, dsn string, trace *trace) *sql.DB {
			return uptrace.OpenDB(connector(t, dsn), uptrace.WithTracerProvider(trace.otel(t)))
		},
	},
	{
		module: "go.nhat.io/otelsql",
		open: func(t *testing.T, dsn string, trace *trace) *sql.DB {
			return openBy(t, nhat.Wrap(&mysql.MySQLDriver{}, nhat.AllowRoot(), nhat.TraceQueryWithoutArgs(), nhat.WithTracerProvider(trace.otel(t))), dsn)
		},
	},
	{
		module: "contrib.go.opencensus.io/integrations/ocsql",
		open: func(t *testing.T, dsn string, trace *trace) *sql.DB {
			opencensus.RegisterExporter(trace)
			t.Cleanup(func() { opencensus.UnregisterExporter(trace) })
			return openBy(t, ocsql.Wrap(&mysql.MySQLDriver{}, ocsql.WithAllowRoot(true), ocsql.WithQuery(true), ocsql.WithSampler(opencensus.AlwaysSample())), dsn)
		},
		unwrap: fieldOf("contrib.go.opencensus.io/integrations/ocsql", "parent"),
		said:   `fieldOf("contrib.go.opencensus.io/integrations/ocsql", "parent")`,
	},
	{
		module: "github.com/ngrok/sqlmw",
		open: func(t *testing.T, dsn string, trace *trace) *sql.DB {
			return openBy(t, sqlmw.Driver(&mysql.MySQLDriver{}, &interceptor{trace: trace}), dsn)
		},
		unwrap: fieldOf("github.com/ngrok/sqlmw", "parent"),
		said:   `fieldOf("github.com/ngrok/sqlmw", "parent")`,
	},
	{
		module: "github.com/luna-duclos/instrumentedsql",
		open: func(t *testing.T, dsn string, trace *trace) *sql.DB {
			log := instrumentedsql.LoggerFunc(func(_ context.Context, _ string, values ...any) { trace.add(fmt.Sprint(values...)) })
			return openBy(t, instrumentedsql.WrapDriver(&mysql.MySQLDriver{}, instrumentedsql.WithLogger(log)), dsn)
		},
		unwrap: fieldOf("github.com/luna-duclos/instrumentedsql", "parent"),
		said:   `fieldOf("github.com/luna-duclos/instrumentedsql", "parent")`,
	},
	{
		module: "github.com/newrelic/go-agent/v3",
		open: func(t *testing.T, dsn string, trace *trace) *sql.DB {
			builder := newrelic.SQLDriverSegmentBuilder{ParseQuery: func(_ *newrelic.DatastoreSegment, query string) { trace.add(query) }}
			return openBy(t, newrelic.InstrumentSQLDriver(&mysql.MySQLDriver{}, builder), dsn)
		},
		unwrap: fieldOf("github.com/newrelic/go-agent/v3/newrelic", "original"),
		said:   `fieldOf("github.com/newrelic/go-agent/v3/newrelic", "original")`,
	},
}

// A trace has the texts of the statements that a wrapper reports.
type trace struct {
	more func() []string // the texts that the wrapper keeps itself; nil: none

	mu    sync.Mutex
	texts []string
}

func (r *trace) add(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.texts = append(r.texts, text)
}

func (r *trace) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	texts := append([]string(nil), r.texts...)
	if r.more != nil {
		texts = append(texts, r.more()...)
	}
	return texts
}

// otel returns a provider whose spans are kept in r.
func (r *trace) otel(t *testing.T) *sdktrace.TracerProvider {
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans{r}))
	t.Cleanup(func() { _ = provider.Shutdown(context.WithoutCancel(t.Context())) })
	return provider
}

type spans struct{ *trace }

func (s spans) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (s spans) Shutdown(context.Context) error                  { return nil }
func (s spans) ForceFlush(context.Context) error                { return nil }

func (s spans) OnEnd(span sdktrace.ReadOnlySpan) {
	for _, a := range span.Attributes() {
		s.add(a.Value.String())
	}
}

// ExportSpan implements the exporter of opencensus.
func (r *trace) ExportSpan(span *opencensus.SpanData) {
	for _, value := range span.Attributes {
		r.add(fmt.Sprint(value))
	}
}

type logger struct{ *trace }

func (l logger) Log(_ context.Context, _ sqldblogger.Level, _ string, data map[string]any) {
	l.add(fmt.Sprint(data["query"]))
}

type interceptor struct {
	sqlmw.NullInterceptor
	trace *trace
}

func (i *interceptor) ConnQueryContext(ctx context.Context, conn driver.QueryerContext, query string, args []driver.NamedValue) (context.Context, driver.Rows, error) {
	i.trace.add(query)
	rows, err := conn.QueryContext(ctx, query, args)
	return ctx, rows, err
}

func (i *interceptor) ConnExecContext(ctx context.Context, conn driver.ExecerContext, query string, args []driver.NamedValue) (driver.Result, error) {
	i.trace.add(query)
	return conn.ExecContext(ctx, query, args)
}

func connector(t *testing.T, dsn string) driver.Connector {
	t.Helper()
	c, err := (&mysql.MySQLDriver{}).OpenConnector(dsn)
	require.NoError(t, err)
	return c
}

// openBy opens a db by a driver that is not registered.
func openBy(t *testing.T, d driver.Driver, dsn string) *sql.DB {
	t.Helper()
	if d, ok := d.(driver.DriverContext); ok {
		c, err := d.OpenConnector(dsn)
		require.NoError(t, err)
		return sql.OpenDB(c)
	}
	return sql.OpenDB(byDSN{by: d, dsn: dsn})
}

// byDSN is a connector for a driver that cannot make one.
type byDSN struct {
	by  driver.Driver
	dsn string
}

func (c byDSN) Connect(context.Context) (driver.Conn, error) { return c.by.Open(c.dsn) }
func (c byDSN) Driver() driver.Driver                        { return c.by }
