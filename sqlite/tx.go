package sqlite

import (
	"database/sql"
	"errors"
	"fmt"

	"github.com/taskgen/taskgen/broker"
)

// The states of a stored run, as in schema.sql.
const (
	delayed    = 0
	ready      = 1
	inFlight   = 2
	unreadable = 3
)

// tx is one transaction of the writer. Its first failed statement fails all of it.
type tx struct {
	w   *writer
	now int64 // of the wall clock, in nanoseconds
	err error

	back, front int64            // as in taskgen_meta
	lengths     map[string]int64 // by how much the waiting runs of queues have changed
	woken       map[string]bool  // queues in which takes may find something
	numbered    bool             // back or front has changed
}

func (t *tx) begin() {
	t.exec("BEGIN IMMEDIATE")
	t.row("SELECT back, front FROM taskgen_meta", nil, &t.back, &t.front)
}

// do does a call, unless the transaction has failed.
func (t *tx) do(c *call) error {
	if t.err != nil {
		return t.err
	}
	return c.do(t)
}

// commit writes what the calls changed together, and commits. After an error it undoes all.
func (t *tx) commit() error {
	for queue, by := range t.lengths {
		t.exec(`INSERT INTO taskgen_queues VALUES (?, ?)
			ON CONFLICT (name) DO UPDATE SET waiting = waiting + excluded.waiting`, queue, by)
	}
	if t.numbered {
		t.exec("UPDATE taskgen_meta SET back = ?, front = ?", t.back, t.front)
	}
	t.exec("COMMIT")
	if t.err != nil {
		if s, err := t.w.stmt("ROLLBACK"); err == nil {
			_, _ = s.Exec() // there is nothing to undo if BEGIN failed, or SQLite undid it
		}
	}
	return t.err
}

// exec executes a statement and returns how many rows it changed.
func (t *tx) exec(text string, args ...any) int64 {
	if t.err != nil {
		return 0
	}
	s, err := t.w.stmt(text)
	if err != nil {
		t.err = err
		return 0
	}
	result, err := s.Exec(args...)
	if err != nil {
		t.err = explain(err)
		return 0
	}
	n, _ := result.RowsAffected()
	return n
}

// row reads one row into variables, and reports whether there is one.
func (t *tx) row(text string, args []any, into ...any) bool {
	if t.err != nil {
		return false
	}
	switch err := t.w.row(text, args, into...); {
	case errors.Is(err, sql.ErrNoRows):
		return false
	case err != nil:
		t.err = err
		return false
	}
	return true
}

// rows calls read for each row of a query. read must not execute statements.
func (t *tx) rows(text string, args []any, read func(scan func(...any) error) error) {
	if t.err != nil {
		return
	}
	s, err := t.w.stmt(text)
	if err != nil {
		t.err = err
		return
	}
	found, err := s.Query(args...)
	if err != nil {
		t.err = explain(err)
		return
	}
	for found.Next() && err == nil {
		err = read(found.Scan)
	}
	t.err = explain(errors.Join(err, found.Err(), found.Close()))
}

// atBack returns a number greater than all before.
func (t *tx) atBack() int64 {
	t.numbered = true
	t.back++
	return t.back
}

// atFront returns a number less than all before.
func (t *tx) atFront() int64 {
	t.numbered = true
	t.front--
	return t.front
}

// storedRun is a row of taskgen_runs that waits.
type storedRun struct {
	id, place, rank int64
	deliveries      int
	envelope        []byte
	run             *broker.TaskRun // once decoded
}

// pick reads due runs of one queue that wait, the first of each kind.
func (t *tx) pick(queue string, room [2]int) []storedRun {
	t.promote(queue)
	var picked []storedRun
	for kind, n := range room {
		if n <= 0 {
			continue
		}
		t.rows(`SELECT id, place, rank, deliveries, envelope FROM taskgen_runs
			WHERE state = 1 AND queue = ? AND kind = ? ORDER BY rank, place LIMIT ?`, []any{queue, kind, n},
			func(scan func(...any) error) error {
				var r storedRun
				err := scan(&r.id, &r.place, &r.rank, &r.deliveries, &r.envelope)
				picked = append(picked, r)
				return err
			})
	}
	return picked
}

// promote makes runs of a queue ready that have become due.
func (t *tx) promote(queue string) {
	const page = 1000
	var due []int64
	t.rows("SELECT id FROM taskgen_runs WHERE state = 0 AND queue = ? AND place <= ? ORDER BY place, id LIMIT ?",
		[]any{queue, t.now, page}, func(scan func(...any) error) error {
			var id int64
			err := scan(&id)
			due = append(due, id)
			return err
		})
	for _, id := range due {
		t.exec("UPDATE taskgen_runs SET state = 1, place = ? WHERE id = ?", t.atBack(), id)
	}
}

// decode reads the runs and returns those that this build can read. A run of a newer version
// waits for another consumer; one that nobody can read is put where no take finds it.
func (t *tx) decode(queue string, picked []storedRun) []storedRun {
	const forOthers = 60e9 // nanoseconds
	var d broker.Decoder
	kept := picked[:0]
	for _, r := range picked {
		r.run = new(broker.TaskRun)
		err := d.Decode(r.envelope, r.run)
		if err == nil && r.run.Queue != queue {
			err = fmt.Errorf("it is a run of queue %s", r.run.Queue)
		}
		switch {
		case err == nil:
			kept = append(kept, r)
		case errors.Is(err, broker.ErrNewer):
			t.exec("UPDATE taskgen_runs SET state = 0, place = ? WHERE id = ?", t.now+forOthers, r.id)
		default:
			t.w.log.Error("a stored run cannot be read and stays in the file unused", "queue", queue, "row", r.id, "error", err)
			t.exec("UPDATE taskgen_runs SET state = 3, own = NULL WHERE id = ?", r.id)
			t.lengths[queue]--
		}
	}
	return kept
}
