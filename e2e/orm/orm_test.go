package orm

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	driver "github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/mysqldialect"
	gormmysql "gorm.io/driver/mysql"
	"gorm.io/gorm"
	gormlogger "gorm.io/gorm/logger"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/e2e/orm/ent"
	"github.com/go-namedlock/namedlock/e2e/orm/queries"
	"github.com/go-namedlock/namedlock/e2e/servers"
)

func TestMain(m *testing.M) {
	// The driver would log every session that is killed.
	_ = driver.SetLogger(&driver.NopLogger{})
	m.Run()
}

// A tool is an ORM or a query builder on a db.
type tool struct {
	// Inserts a note and updates it to b, as on the page.
	inTx    func(ctx context.Context, tx *sql.Tx) error
	insert  func(ctx context.Context, tx *sql.Tx, text string) error
	nested  func(ctx context.Context, tx *sql.Tx, fn func() error) error
	outside func(ctx context.Context, text string) error // through the outer handle
}

var tools = map[string]func(t *testing.T, db *sql.DB) tool{
	"gorm": func(t *testing.T, db *sql.DB) tool {
		g := openGorm(t, db)
		return tool{
			inTx: func(ctx context.Context, tx *sql.Tx) error { return gormInTx(ctx, g, tx) },
			insert: func(ctx context.Context, tx *sql.Tx, text string) error {
				return withGorm(ctx, g, tx).Create(&Note{Text: text}).Error
			},
			nested: func(ctx context.Context, tx *sql.Tx, fn func() error) error {
				return withGorm(ctx, g, tx).Transaction(func(*gorm.DB) error { return fn() })
			},
			outside: func(ctx context.Context, text string) error {
				return g.WithContext(ctx).Create(&Note{Text: text}).Error
			},
		}
	},
	"sqlx": func(t *testing.T, db *sql.DB) tool {
		x := sqlx.NewDb(db, "mysql")
		return tool{
			inTx: func(ctx context.Context, tx *sql.Tx) error { return sqlxInTx(ctx, x, tx) },
			insert: func(ctx context.Context, tx *sql.Tx, text string) error {
				_, err := withSqlx(x, tx).NamedExecContext(ctx, "INSERT INTO notes (text) VALUES (:text)", Note{Text: text})
				return err
			},
			nested: nested,
			outside: func(ctx context.Context, text string) error {
				_, err := x.ExecContext(ctx, "INSERT INTO notes (text) VALUES (?)", text)
				return err
			},
		}
	},
	"sqlc": func(t *testing.T, db *sql.DB) tool { return sqlcTool(queries.New(db)) },
	"sqlc, prepared": func(t *testing.T, db *sql.DB) tool {
		q, err := queries.Prepare(t.Context(), db)
		require.NoError(t, err)
		t.Cleanup(func() { q.Close() })
		return sqlcTool(q)
	},
	"bun": func(t *testing.T, db *sql.DB) tool {
		b := bun.NewDB(db, mysqldialect.New())
		return tool{
			inTx: func(ctx context.Context, tx *sql.Tx) error { return bunInTx(ctx, b, tx) },
			insert: func(ctx context.Context, tx *sql.Tx, text string) error {
				_, err := b.NewInsert().Model(&Note{Text: text}).Conn(tx).Exec(ctx)
				return err
			},
			nested: nested,
			outside: func(ctx context.Context, text string) error {
				_, err := b.NewInsert().Model(&Note{Text: text}).Exec(ctx)
				return err
			},
		}
	},
	"ent": func(t *testing.T, db *sql.DB) tool {
		client := ent.NewClient(ent.Driver(entsql.OpenDB(dialect.MySQL, db)))
		return tool{
			inTx: entInTx,
			insert: func(ctx context.Context, tx *sql.Tx, text string) error {
				return withEnt(tx).Note.Create().SetText(text).Exec(ctx)
			},
			nested:  nested,
			outside: func(ctx context.Context, text string) error { return client.Note.Create().SetText(text).Exec(ctx) },
		}
	},
}

func sqlcTool(q *queries.Queries) tool {
	return tool{
		inTx:    func(ctx context.Context, tx *sql.Tx) error { return sqlcInTx(ctx, q, tx) },
		insert:  func(ctx context.Context, tx *sql.Tx, text string) error { return q.WithTx(tx).InsertNote(ctx, text) },
		nested:  nested,
		outside: func(ctx context.Context, text string) error { return q.InsertNote(ctx, text) },
	}
}

func openGorm(t *testing.T, db *sql.DB) *gorm.DB {
	t.Helper()
	g, err := gorm.Open(gormmysql.New(gormmysql.Config{Conn: db}), &gorm.Config{Logger: gormlogger.Discard})
	require.NoError(t, err)
	return g
}

// A stand is a server with a database of its own.
type stand struct {
	*servers.Server
	db *sql.DB // of the application
}

func onEachServer(t *testing.T, test func(t *testing.T, at *stand)) {
	schema, err := os.ReadFile("schema.sql")
	require.NoError(t, err)
	for _, kind := range []servers.Kind{servers.MariaDB, servers.MySQL} {
		t.Run(string(kind), func(t *testing.T) {
			srv := servers.ForTest(t, kind)
			at := &stand{srv, srv.Open(t, "parseTime=true")}
			for table := range strings.SplitSeq(string(schema), ";") {
				if strings.TrimSpace(table) != "" {
					_, err := at.db.ExecContext(t.Context(), table)
					require.NoError(t, err)
				}
			}
			test(t, at)
		})
	}
}

// onEachTool runs the test with each tool, in a transaction of WithLockTx and
// in one of a leader's term.
func onEachTool(t *testing.T, test func(t *testing.T, at *stand, tool tool, inTx withTx)) {
	onEachServer(t, func(t *testing.T, at *stand) {
		for name, open := range tools {
			for way, with := range ways {
				t.Run(name+"/"+way, func(t *testing.T) {
					_, err := at.db.ExecContext(t.Context(), "DELETE FROM notes")
					require.NoError(t, err)
					test(t, at, open(t, at.db), with(t, at.db))
				})
			}
		}
	})
}

// withTx runs fn in a transaction under a lock of that name.
type withTx func(name string, fn func(ctx context.Context, tx *sql.Tx) error) error

var ways = map[string]func(t *testing.T, db *sql.DB) withTx{
	"WithLockTx": func(t *testing.T, db *sql.DB) withTx {
		l := locker(t, db)
		return func(name string, fn func(ctx context.Context, tx *sql.Tx) error) error {
			return l.WithLockTx(t.Context(), name, 0, nil, fn)
		}
	},
	"Term": func(t *testing.T, db *sql.DB) withTx {
		l := locker(t, db)
		return func(name string, fn func(ctx context.Context, tx *sql.Tx) error) (err error) {
			ran := false
			lead := l.Lead(t.Context(), name, func(ctx context.Context, term *namedlock.Term) error {
				if !ran { // otherwise the first term was lost
					ran = true
					err = term.WithTx(ctx, nil, fn)
				}
				return nil
			})
			require.NoError(t, lead)
			return err
		}
	},
}

func locker(t *testing.T, db *sql.DB) *namedlock.Locker {
	t.Helper()
	l, err := namedlock.Open(db)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

var names atomic.Int64

func newName() string { return fmt.Sprintf("orm-%d", names.Add(1)) }

// notes returns the committed notes.
func (at *stand) notes(t *testing.T) (texts []string) {
	t.Helper()
	rows, err := at.db.QueryContext(t.Context(), "SELECT text FROM notes ORDER BY id")
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var text string
		require.NoError(t, rows.Scan(&text))
		texts = append(texts, text)
	}
	require.NoError(t, rows.Err())
	return texts
}

var errMine = errors.New("mine")

func TestCommit(t *testing.T) {
	onEachTool(t, func(t *testing.T, at *stand, tool tool, with withTx) {
		require.NoError(t, with(newName(), func(ctx context.Context, tx *sql.Tx) error {
			require.NoError(t, tool.inTx(ctx, tx))
			assert.Empty(t, at.notes(t), "not committed yet")
			return nil
		}))
		assert.Equal(t, []string{"b"}, at.notes(t))
	})
}

func TestRollback(t *testing.T) {
	onEachTool(t, func(t *testing.T, at *stand, tool tool, with withTx) {
		require.ErrorIs(t, with(newName(), func(ctx context.Context, tx *sql.Tx) error {
			require.NoError(t, tool.inTx(ctx, tx))
			return errMine
		}), errMine)
		assert.Empty(t, at.notes(t))
	})
}

func TestNested(t *testing.T) {
	onEachTool(t, func(t *testing.T, at *stand, tool tool, with withTx) {
		require.NoError(t, with(newName(), func(ctx context.Context, tx *sql.Tx) error {
			require.NoError(t, tool.nested(ctx, tx, func() error { return tool.insert(ctx, tx, "kept") }))
			require.ErrorIs(t, tool.nested(ctx, tx, func() error {
				require.NoError(t, tool.insert(ctx, tx, "undone"))
				return errMine
			}), errMine)
			return tool.insert(ctx, tx, "after")
		}))
		assert.Equal(t, []string{"kept", "after"}, at.notes(t))
	})
}

func TestKill(t *testing.T) {
	onEachTool(t, func(t *testing.T, at *stand, tool tool, with withTx) {
		name := newName()
		err := with(name, func(ctx context.Context, tx *sql.Tx) error {
			require.NoError(t, tool.inTx(ctx, tx))
			require.NoError(t, locksql.KillHolder(t.Context(), at.db, name))
			<-ctx.Done()
			assert.Error(t, tool.insert(ctx, tx, "late"))
			return nil // the loss is an error nevertheless
		})
		require.ErrorIs(t, err, namedlock.ErrLost)
		var e *namedlock.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, namedlock.TxNotCommitted, e.Tx)
		assert.Empty(t, at.notes(t))
	})
}

// The trap at the beginning of the page: the outer handle writes outside the
// transaction, without an error.
func TestOuterHandle(t *testing.T) {
	onEachTool(t, func(t *testing.T, at *stand, tool tool, with withTx) {
		require.ErrorIs(t, with(newName(), func(ctx context.Context, _ *sql.Tx) error {
			require.NoError(t, tool.outside(ctx, "outside"))
			return errMine
		}), errMine)
		assert.Equal(t, []string{"outside"}, at.notes(t), "although the transaction was rolled back")
	})
}

// inTx runs fn in a transaction of WithLockTx, which is rolled back.
func (at *stand) inTx(t *testing.T, db *sql.DB, fn func(ctx context.Context, tx *sql.Tx)) {
	t.Helper()
	require.ErrorIs(t, locker(t, db).WithLockTx(t.Context(), newName(), 0, nil, func(ctx context.Context, tx *sql.Tx) error {
		fn(ctx, tx)
		return errMine
	}), errMine)
}

// Uses that do not work, as the page describes.
func TestTraps(t *testing.T) {
	onEachServer(t, func(t *testing.T, at *stand) {
		t.Run("gorm: Begin", func(t *testing.T) {
			g := openGorm(t, at.db)
			at.inTx(t, at.db, func(ctx context.Context, tx *sql.Tx) {
				require.ErrorIs(t, withGorm(ctx, g, tx).Begin().Error, gorm.ErrInvalidTransaction)
			})
		})
		t.Run("sqlx: no Mapper", func(t *testing.T) {
			at.inTx(t, at.db, func(ctx context.Context, tx *sql.Tx) {
				require.Panics(t, func() {
					_, _ = (&sqlx.Tx{Tx: tx}).NamedExecContext(ctx, "INSERT INTO notes (text) VALUES (:text)", Note{Text: "a"})
				})
				require.NoError(t, sqlxInTx(ctx, sqlx.NewDb(at.db, "mysql"), tx))
				require.Panics(t, func() { _ = (&sqlx.Tx{Tx: tx}).GetContext(ctx, new(Note), "SELECT id, text FROM notes") })
				var note Note
				require.NoError(t, withSqlx(sqlx.NewDb(at.db, "mysql"), tx).GetContext(ctx, &note, "SELECT id, text FROM notes"))
				assert.Equal(t, "b", note.Text)
			})
		})
		t.Run("sqlc: prepared, and a db for locks", func(t *testing.T) {
			q, err := queries.Prepare(t.Context(), at.db)
			require.NoError(t, err)
			defer q.Close()
			at.inTx(t, at.Open(t, "parseTime=true"), func(ctx context.Context, tx *sql.Tx) {
				require.ErrorContains(t, q.WithTx(tx).InsertNote(ctx, "a"), "statement from different database used")
				require.NoError(t, queries.New(tx).InsertNote(ctx, "a"))
			})
		})
		t.Run("bun: a Tx", func(t *testing.T) {
			at.inTx(t, at.db, func(ctx context.Context, tx *sql.Tx) {
				require.Panics(t, func() { _, _ = bun.Tx{Tx: tx}.NewInsert().Model(&Note{Text: "a"}).Exec(ctx) })
			})
		})
		t.Run("ent: its own driver", func(t *testing.T) {
			at.inTx(t, at.db, func(ctx context.Context, tx *sql.Tx) {
				client := ent.NewClient(ent.Driver(entsql.NewDriver(dialect.MySQL, entsql.Conn{ExecQuerier: tx})))
				note, err := client.Note.Create().SetText("a").Save(ctx)
				require.NoError(t, err)
				require.Panics(t, func() { _, _ = client.Note.UpdateOne(note).SetText("b").Save(ctx) })
				require.Panics(t, func() { _, _ = client.Topic.Create().SetName("t").AddNotes(note).Save(ctx) })
				require.Panics(t, func() { _, _ = client.Tx(ctx) })
			})
		})
		t.Run("ent: a Tx within", func(t *testing.T) {
			at.inTx(t, at.db, func(ctx context.Context, tx *sql.Tx) {
				client := withEnt(tx)
				note, err := client.Note.Create().SetText("a").Save(ctx)
				require.NoError(t, err)
				topic, err := client.Topic.Create().SetName("t").AddNotes(note).Save(ctx)
				require.NoError(t, err)
				count, err := topic.QueryNotes().Count(ctx)
				require.NoError(t, err)
				assert.Equal(t, 1, count)
				inner, err := client.Tx(ctx)
				require.NoError(t, err)
				require.NoError(t, inner.Note.Create().SetText("inner").Exec(ctx))
				require.NoError(t, inner.Rollback())
				count, err = client.Note.Query().Count(ctx)
				require.NoError(t, err)
				assert.Equal(t, 2, count, "the inner Rollback has no effect")
				require.NoError(t, client.Close())
			})
			assert.Empty(t, at.notes(t))
		})
		t.Run("a db for locks without the application's parameters", func(t *testing.T) {
			g := openGorm(t, at.db)
			at.inTx(t, at.Open(t), func(ctx context.Context, tx *sql.Tx) {
				gtx := withGorm(ctx, g, tx)
				require.NoError(t, gtx.Create(&Note{Text: "a"}).Error)
				require.ErrorContains(t, gtx.First(&Note{}).Error, "unsupported Scan")
			})
		})
		t.Run("a db for locks without a schema", func(t *testing.T) {
			db, err := sql.Open("mysql", strings.Replace(at.DSN(), "/test", "/", 1))
			require.NoError(t, err)
			defer db.Close()
			at.inTx(t, db, func(ctx context.Context, tx *sql.Tx) {
				var refused *driver.MySQLError
				require.ErrorAs(t, withSqlx(sqlx.NewDb(db, "mysql"), tx).GetContext(ctx, new(int), "SELECT COUNT(*) FROM notes"), &refused)
				assert.EqualValues(t, 1046, refused.Number)
			})
		})
	})
}

// Each block of Go on the page is code of this package, which the tests above
// test.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/ORM.md")
	require.NoError(t, err)
	source, err := os.ReadFile("orm.go")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?ms)^```go\n(.*?)^```").FindAllStringSubmatch(string(page), -1)
	require.Len(t, blocks, 7)
	for _, block := range blocks {
		assert.Contains(t, string(source), block[1])
	}
	mod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	for _, tested := range regexp.MustCompile("(?m)^\\| \\w+ \\| `(\\S+)` \\| (v\\S+) \\|").FindAllStringSubmatch(string(page), -1) {
		assert.Contains(t, string(mod), "\t"+tested[1]+" "+tested[2]+"\n")
	}
}
