package sqlite

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	neturl "net/url"
	"path/filepath"
	"strings"
	"sync"

	_ "github.com/ncruces/go-sqlite3/driver" // the driver sqlite3 of Open

	"github.com/taskgen/taskgen/broker"
)

// Sync is what a commit waits for.
type Sync string

// The ways to commit.
const (
	Full   Sync = "full"   // the disk has it: nothing is lost if the power fails
	Normal Sync = "normal" // the operating system has it: it survives the process, the latest commits not a power failure
)

// Config is how a broker works; its zero value works.
type Config struct {
	Sync   Sync         // Defaults to Full.
	Logger *slog.Logger // of stored runs that cannot be read. Defaults to slog's default logger.
}

// Broker is a [broker.Broker], [broker.Leaser], [broker.Ticks] and [broker.Clock] in an SQLite
// file. Its methods may be called concurrently.
type Broker struct {
	db     *sql.DB
	owned  bool // Close closes db
	log    *slog.Logger
	writer *writer
	close  sync.Once
}

// Open opens the broker in the file that a URL names, and makes the file if it is missing:
//
//	file:tasks.db              in the working directory
//	file:///var/lib/tasks.db
//	file:tasks.db?sync=normal  see [Normal]
//
// It returns an error if the file is on a network file system, where SQLite cannot lock.
func Open(ctx context.Context, url string) (broker.Broker, error) {
	path, cfg, err := parse(url)
	if err != nil {
		return nil, fmt.Errorf("open broker %q: %w", url, err)
	}
	if err := checkFileSystem(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("open broker %q: %w", url, err)
	}
	db, err := sql.Open("sqlite3", (&neturl.URL{Scheme: "file", Path: filepath.ToSlash(path)}).String())
	if err != nil {
		return nil, fmt.Errorf("open broker %q: %w", url, err)
	}
	b, err := New(ctx, db, cfg)
	if err != nil {
		return nil, fmt.Errorf("open broker %q: %w", url, errors.Join(err, db.Close()))
	}
	b.owned = true
	return b, nil
}

// parse returns the absolute path that a URL names, and how to open it.
func parse(url string) (path string, cfg Config, err error) {
	u, err := neturl.Parse(url)
	if err != nil {
		return "", cfg, errors.New("it is no URL; write file:tasks.db")
	}
	path = u.Path
	if u.Opaque != "" {
		if path, err = neturl.PathUnescape(u.Opaque); err != nil {
			return "", cfg, fmt.Errorf("unescape the path: %w", err)
		}
	}
	switch {
	case !strings.EqualFold(u.Scheme, "file"):
		return "", cfg, errors.New("its scheme is not file; write file:tasks.db")
	case u.Host != "":
		return "", cfg, fmt.Errorf("it names the host %s; write file:tasks.db or file:///path/tasks.db", u.Host)
	case path == "" || strings.HasSuffix(path, "/") || path == ":memory:":
		return "", cfg, errors.New("it names no file; write file:tasks.db, or memory: for a broker without a file")
	}
	for name, values := range u.Query() {
		if name != "sync" {
			return "", cfg, fmt.Errorf("unknown parameter %s; sync is the only one", name)
		}
		cfg.Sync = Sync(values[len(values)-1])
	}
	path, err = filepath.Abs(filepath.FromSlash(path))
	return path, cfg, err
}

// New returns a broker in a database of SQLite, and makes its tables if they are missing;
// their names begin with taskgen_. It sets the database to write-ahead logging, and keeps one
// connection. Close the broker before db.
//
// It returns an error if db is not in a file, allows no second connection, or has tables of a
// newer version of this package.
func New(ctx context.Context, db *sql.DB, cfg Config) (*Broker, error) {
	if cfg.Sync == "" {
		cfg.Sync = Full
	}
	if cfg.Sync != Full && cfg.Sync != Normal {
		return nil, fmt.Errorf("unknown Sync %q; use full or normal", cfg.Sync)
	}
	if db.Stats().MaxOpenConnections == 1 {
		return nil, errors.New("the database allows one connection, which the broker keeps; raise SetMaxOpenConns")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	b := &Broker{db: db, log: cfg.Logger}
	if err := prepare(ctx, conn, cfg.Sync); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if b.writer, err = newWriter(ctx, conn, cfg.Logger); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return b, nil
}

//go:embed schema.sql
var schema string

// version is that of the tables. migrations[i] makes version i+1 of version i.
const version = 1

func migrations() []string { return []string{schema} }

// prepare sets the connection up, and brings the tables to this version.
func prepare(ctx context.Context, conn *sql.Conn, sync Sync) error {
	var file sql.NullString
	if err := conn.QueryRowContext(ctx, "SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&file); err != nil {
		return fmt.Errorf("read where the database is: %w", explain(err))
	}
	if file.String == "" {
		return errors.New("the database is in memory; use a file, or the embedded broker")
	}
	for _, pragma := range []string{"busy_timeout = 10000", "journal_mode = wal", "synchronous = " + string(sync), "journal_size_limit = 67108864"} {
		if _, err := conn.ExecContext(ctx, "PRAGMA "+pragma); err != nil {
			return fmt.Errorf("set %s: %w", pragma, explain(err))
		}
	}
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("begin to make tables: %w", explain(err))
	}
	if err := migrate(ctx, conn); err != nil {
		_, rollback := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		return errors.Join(err, rollback)
	}
	if _, err := conn.ExecContext(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("commit the tables: %w", explain(err))
	}
	return nil
}

func migrate(ctx context.Context, conn *sql.Conn) error {
	var tables, found int
	err := conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE name = 'taskgen_meta'").Scan(&tables)
	if err == nil && tables > 0 {
		err = conn.QueryRowContext(ctx, "SELECT version FROM taskgen_meta").Scan(&found)
	}
	if err != nil {
		return fmt.Errorf("read the version of the tables: %w", explain(err))
	}
	if found > version {
		return fmt.Errorf("the file has tables of version %d, this program knows those up to %d: use a newer build of it", found, version)
	}
	if found == version {
		return nil
	}
	for i, step := range migrations()[found:] {
		if _, err := conn.ExecContext(ctx, step); err != nil {
			return fmt.Errorf("make tables of version %d: %w", found+i+1, explain(err))
		}
	}
	if _, err := conn.ExecContext(ctx, "UPDATE taskgen_meta SET version = ?", version); err != nil {
		return fmt.Errorf("write the version of the tables: %w", explain(err))
	}
	return nil
}

// Close ends the broker. Blocked calls and later ones return [broker.ErrClosed]. It waits for
// the transaction that is being committed, and closes the database if Open opened it.
// Closing again does nothing.
func (b *Broker) Close() (err error) {
	b.close.Do(func() {
		err = b.writer.close()
		if b.owned {
			err = errors.Join(err, b.db.Close())
		}
	})
	return err
}
