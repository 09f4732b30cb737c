package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	neturl "net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/sqlite"
)

func run(id string) *broker.TaskRun {
	return &broker.TaskRun{ID: id, OwnID: true, Task: "task", Queue: "q", QueuedAt: time.Unix(1_800_000_000, 0), Payload: []byte{0x80}}
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestRunsOutliveTheBroker(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a file%20with ?odd #name.db")
	url := (&neturl.URL{Scheme: "file", Path: path}).String()
	b, err := sqlite.Open(t.Context(), url)
	require.NoError(t, err)
	require.FileExists(t, path)
	require.NoError(t, b.QueueTasks(t.Context(), run("1"), run("2")))
	s, err := b.(broker.Leaser).OpenSession(t.Context(), time.Minute)
	require.NoError(t, err)
	held, err := s.Take(within(t, time.Minute), broker.Want{Queues: []string{"q"}, IO: 1})
	require.NoError(t, err)
	require.Equal(t, "1", held[0].ID)
	require.NoError(t, b.(*sqlite.Broker).Close())
	require.ErrorIs(t, b.QueueTasks(t.Context(), run("3")), broker.ErrClosed)
	_, err = b.QueueLength(t.Context())
	require.ErrorIs(t, err, broker.ErrClosed)

	again, err := sqlite.Open(t.Context(), url)
	require.NoError(t, err)
	defer again.(*sqlite.Broker).Close()
	n, err := again.QueueLength(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"q": 1}, n)
	require.ErrorIs(t, again.QueueTasks(t.Context(), run("1")), broker.ErrDuplicate, "a run in flight lives")
	got, err := again.GetTaskRuns(within(t, time.Minute), []string{"q"}, 9)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, "2", got[0].ID)
}

// TestAnotherBrokerOfTheFileWakes: the two share no memory but the file, as two processes do.
func TestAnotherBrokerOfTheFileWakes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tasks.db")
	one, other := openFile(t, path), openFile(t, path)
	for i := range 5 {
		taken := make(chan error, 1)
		go func() {
			runs, err := other.GetTaskRuns(within(t, time.Minute), []string{"q"}, 1)
			if err == nil && runs[0].ID != fmt.Sprint(i) {
				err = fmt.Errorf("took run %s", runs[0].ID)
			}
			taken <- err
		}()
		require.NoError(t, one.QueueTasks(t.Context(), run(fmt.Sprint(i))))
		require.NoError(t, <-taken)
	}
}

func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tasks.db")
	db, err := sql.Open("sqlite3", "file:"+path+"?_pragma=max_page_count(60)")
	require.NoError(t, err)
	defer db.Close()
	b, err := sqlite.New(t.Context(), db, sqlite.Config{})
	require.NoError(t, err)
	defer b.Close()
	stored := 0
	for err == nil && stored < 1000 {
		r := run(fmt.Sprint(stored))
		r.Payload = make([]byte, 2000)
		if err = b.QueueTasks(t.Context(), r); err == nil {
			stored++
		}
	}
	require.ErrorIs(t, err, broker.ErrQueueFull)
	require.Positive(t, stored)
	n, err := b.QueueLength(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, stored, n["q"], "length after a run was refused")
	got, err := b.GetTaskRuns(within(t, time.Minute), []string{"q"}, stored)
	require.NoError(t, err, "a full disk lets runs be taken")
	require.Len(t, got, stored)
	require.NoError(t, b.QueueTasks(t.Context(), run("after")), "there is room again")
}

// TestTheFileStopsGrowing queues and takes many times as much as the file may hold.
func TestTheFileStopsGrowing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tasks.db")
	b := openFile(t, path)
	size := func() int64 {
		info, err := os.Stat(path)
		require.NoError(t, err)
		return info.Size()
	}
	var early int64
	for round := range 60 {
		runs := make([]*broker.TaskRun, 200)
		for i := range runs {
			runs[i] = run(fmt.Sprint(i))
			runs[i].Payload = make([]byte, 1000)
		}
		require.NoError(t, b.QueueTasks(t.Context(), runs...))
		for left := len(runs); left > 0; {
			got, err := b.GetTaskRuns(within(t, time.Minute), []string{"q"}, left)
			require.NoError(t, err)
			left -= len(got)
		}
		if round == 20 {
			early = size()
		}
	}
	require.Positive(t, early)
	require.LessOrEqual(t, size(), early+early/10)
}

func TestAFileOfANewerVersionIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tasks.db")
	require.NoError(t, openFile(t, path).(*sqlite.Broker).Close())
	db, err := sql.Open("sqlite3", "file:"+path)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.Exec("UPDATE taskgen_meta SET version = 99")
	require.NoError(t, err)
	_, err = sqlite.Open(t.Context(), "file:"+path)
	require.ErrorContains(t, err, "the file has tables of version 99, this program knows those up to 1: use a newer build of it")
}

// TestARunThatCannotBeReadHoldsUpNoOther spoils one of three stored runs.
func TestARunThatCannotBeReadHoldsUpNoOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tasks.db")
	b := openFile(t, path)
	require.NoError(t, b.QueueTasks(t.Context(), run("1"), run("2"), run("3")))
	db, err := sql.Open("sqlite3", "file:"+path)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.Exec("UPDATE taskgen_runs SET envelope = x'01ff' WHERE own = '2'")
	require.NoError(t, err)
	got, err := b.GetTaskRuns(within(t, time.Minute), []string{"q"}, 9)
	require.NoError(t, err)
	require.Len(t, got, 2)
	n, err := b.QueueLength(t.Context())
	require.NoError(t, err)
	require.Zero(t, n["q"])
}

func TestOpenRefuses(t *testing.T) {
	for url, want := range map[string]string{
		"file:":                "names no file",
		"file::memory:":        "names no file",
		"file:x.db?sync=often": `unknown Sync "often"`,
		"file:x.db?mode=ro":    "unknown parameter mode",
		"file://host/x.db":     "names the host host",
		"redis://localhost":    "its scheme is not file",
		"file:/none/there/x":   "look at the file system of /none/there",
	} {
		b, err := sqlite.Open(t.Context(), url)
		require.ErrorContains(t, err, want, url)
		require.Nil(t, b)
	}
	db, err := sql.Open("sqlite3", "file:one?mode=memory")
	require.NoError(t, err)
	defer db.Close()
	_, err = sqlite.New(t.Context(), db, sqlite.Config{})
	require.ErrorContains(t, err, "the database is in memory")
	db.SetMaxOpenConns(1)
	_, err = sqlite.New(t.Context(), db, sqlite.Config{})
	require.ErrorContains(t, err, "allows one connection")
	require.False(t, errors.Is(err, broker.ErrUnavailable))
}
