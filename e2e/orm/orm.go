// Package orm has the code of docs/ORM.md: ORMs and query builders on the
// *sql.Tx of a lock. Its tests run each on MariaDB and MySQL.
package orm

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/jmoiron/sqlx"
	"github.com/uptrace/bun"
	"gorm.io/gorm"

	"github.com/go-namedlock/namedlock/e2e/orm/ent"
	"github.com/go-namedlock/namedlock/e2e/orm/queries"
)

// A Note is a row of the table notes.
type Note struct {
	ID      int64 `bun:",pk,autoincrement"`
	Text    string
	Written time.Time `gorm:"<-:false" bun:",nullzero,default:current_timestamp"`
}

// nested runs fn in a savepoint of tx. If fn returns an error, the writes of fn
// are undone, and tx stays open.
func nested(ctx context.Context, tx *sql.Tx, fn func() error) error {
	if _, err := tx.ExecContext(ctx, "SAVEPOINT nested"); err != nil {
		return err
	}
	if err := fn(); err != nil {
		_, undo := tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT nested")
		return errors.Join(err, undo)
	}
	_, err := tx.ExecContext(ctx, "RELEASE SAVEPOINT nested")
	return err
}

// withGorm returns g on tx.
func withGorm(ctx context.Context, g *gorm.DB, tx *sql.Tx) *gorm.DB {
	gtx := g.Session(&gorm.Session{Context: ctx, NewDB: true})
	gtx.Statement.ConnPool = tx
	return gtx
}

func gormInTx(ctx context.Context, g *gorm.DB, tx *sql.Tx) error {
	gtx := withGorm(ctx, g, tx)
	if err := gtx.Create(&Note{Text: "a"}).Error; err != nil {
		return err
	}
	return gtx.Model(&Note{}).Where("text = ?", "a").Update("text", "b").Error
}

// withSqlx returns tx for code that has a *sqlx.Tx.
func withSqlx(x *sqlx.DB, tx *sql.Tx) *sqlx.Tx {
	return &sqlx.Tx{Tx: tx, Mapper: x.Mapper}
}

func sqlxInTx(ctx context.Context, x *sqlx.DB, tx *sql.Tx) error {
	xtx := withSqlx(x, tx)
	if _, err := xtx.NamedExecContext(ctx, "INSERT INTO notes (text) VALUES (:text)", Note{Text: "a"}); err != nil {
		return err
	}
	_, err := xtx.ExecContext(ctx, "UPDATE notes SET text = ? WHERE text = ?", "b", "a")
	return err
}

func sqlcInTx(ctx context.Context, q *queries.Queries, tx *sql.Tx) error {
	qtx := q.WithTx(tx)
	if err := qtx.InsertNote(ctx, "a"); err != nil {
		return err
	}
	return qtx.UpdateNote(ctx, queries.UpdateNoteParams{NewText: "b", OldText: "a"})
}

func bunInTx(ctx context.Context, b *bun.DB, tx *sql.Tx) error {
	if _, err := b.NewInsert().Model(&Note{Text: "a"}).Conn(tx).Exec(ctx); err != nil {
		return err
	}
	_, err := b.NewUpdate().Model((*Note)(nil)).Conn(tx).Set("text = ?", "b").Where("text = ?", "a").Exec(ctx)
	return err
}

// entOnTx is a driver for ent whose transactions are all part of an open one.
type entOnTx struct{ dialect.Driver }

// withEnt returns a client on tx.
func withEnt(tx *sql.Tx) *ent.Client {
	return ent.NewClient(ent.Driver(entOnTx{entsql.NewDriver(dialect.MySQL, entsql.Conn{ExecQuerier: tx})}))
}

func (d entOnTx) Tx(context.Context) (dialect.Tx, error) { return dialect.NopTx(d.Driver), nil }

func (d entOnTx) BeginTx(ctx context.Context, _ *entsql.TxOptions) (dialect.Tx, error) {
	return d.Tx(ctx)
}

func (d entOnTx) Close() error { return nil }

func entInTx(ctx context.Context, tx *sql.Tx) error {
	client := withEnt(tx)
	note, err := client.Note.Create().SetText("a").Save(ctx)
	if err != nil {
		return err
	}
	_, err = client.Note.UpdateOne(note).SetText("b").Save(ctx)
	return err
}
