package subprocess

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// Config configures a [Pool]. Its zero value works. The children's own settings are those
// of taskrt.ChildConfig, which documents them.
type Config struct {
	// Processes is how many children there may be at once, not counting the successor
	// of an expired one. Defaults to GOMAXPROCS.
	Processes int

	Fresh       bool
	MaxRuns     int
	MaxAge      time.Duration
	MaxSize     int64
	MaxFailures int
	Idle        time.Duration

	// Grace is the time between asking a child to end its run, or itself, and killing
	// it with its process group. Defaults to 1 second.
	Grace time.Duration
	// StartTimeout is how long a child may take from its start until its hello.
	// Defaults to 10 seconds.
	StartTimeout time.Duration

	Threads  int
	Nice     int
	OOMScore int
	Cgroup   string
	// Env is as in taskrt.ChildConfig. The allow-list adds [DefaultEnv].
	Env []string

	// BrokerURL is the broker's URL, if it is known. A variable of the parent's that
	// gives access to the same broker passes only if it is named in full, whatever
	// other options its URL has. Defaults to TASKGEN_BROKER.
	BrokerURL string

	// GrantsBroker, if set, is used instead of BrokerURL: it reports whether a
	// variable's value gives access to the broker. It may be called concurrently.
	GrantsBroker func(value string) bool

	// Schema lists the tasks that a child must have, each with its name as the first
	// word. A child whose Serve lacks one of them is refused. It may have 7,000
	// entries.
	Schema []string

	// MaxFrame is the size in bytes of the largest frame, which bounds runs, results
	// and calls. It is at least 1 MiB and at most 1 GiB. Defaults to 16 MiB.
	MaxFrame int

	// Logger gets the children's output, one record a line with the attributes run,
	// task, pid and stream, standard output at Info and standard error at Warn. It
	// also gets the records of [Parent.Handler] with the attribute pid. All this comes with
	// the context of Run, which does not end. A slow logger slows the children down.
	// Defaults to slog.Default.
	//
	// It gets at most 64 KiB of a line. Of a run it gets at most 16 MiB of each
	// stream and of its records, counting 128 bytes extra for each line or record;
	// then it gets one record with the number and size of those cut.
	Logger *slog.Logger

	// Kills, if set, counts the children that are killed.
	Kills *Kills

	// Call serves a request that a run makes while it executes; the caller defines
	// method and body. Its ctx is that of Run, and ends with the run, which waits for
	// Call to return. It is called concurrently. Its error crosses as text. Defaults
	// to a function that refuses every call.
	Call func(ctx context.Context, run *broker.TaskRun, method string, body []byte) ([]byte, error)
}

// Check returns the error that NewPool would return, which names the wrong field.
func (c Config) Check() error {
	_, err := c.withDefaults()
	return err
}

func (c Config) withDefaults() (Config, error) {
	c.setCounts()
	c.setTimes()
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Call == nil {
		c.Call = func(context.Context, *broker.TaskRun, string, []byte) ([]byte, error) {
			return nil, errors.New("no calls are served")
		}
	}
	switch {
	case c.Processes < 0:
		return c, fmt.Errorf("field Processes is %d, negative", c.Processes)
	case c.StartTimeout < 0:
		return c, fmt.Errorf("field StartTimeout is %v, negative", c.StartTimeout)
	case c.Grace < 0:
		return c, fmt.Errorf("field Grace is %v, negative", c.Grace)
	case c.Threads < 0:
		return c, fmt.Errorf("field Threads is %d, negative", c.Threads)
	case c.Nice > 19:
		return c, fmt.Errorf("field Nice is %d, more than 19", c.Nice)
	case c.OOMScore > 1000:
		return c, fmt.Errorf("field OOMScore is %d, more than 1000", c.OOMScore)
	case c.MaxFrame < 1<<20 || c.MaxFrame > 1<<30:
		return c, fmt.Errorf("field MaxFrame is %d, outside 1 MiB to 1 GiB", c.MaxFrame)
	}
	if len(c.Schema) > maxSchema {
		return c, fmt.Errorf("field Schema has %d entries, more than %d", len(c.Schema), maxSchema)
	}
	return c, checkEnv(c.Env)
}

func (c *Config) setCounts() {
	setDefault(&c.Processes, runtime.GOMAXPROCS(0))
	setDefault(&c.Threads, max(2, runtime.GOMAXPROCS(0)/max(c.Processes, 1)))
	setDefault(&c.MaxRuns, 100_000)
	setDefault(&c.MaxFailures, 5)
	setDefault(&c.MaxSize, 1<<30)
	setDefault(&c.MaxFrame, 16<<20)
	setDefault(&c.Nice, 5)
	setDefault(&c.OOMScore, 500)
}

func (c *Config) setTimes() {
	setDefault(&c.StartTimeout, 10*time.Second)
	setDefault(&c.Grace, time.Second)
	setDefault(&c.MaxAge, time.Hour)
	setDefault(&c.Idle, 5*time.Minute)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c Config) limits() childLimits {
	return childLimits{threads: c.Threads, nice: max(c.Nice, 0), oomScore: c.OOMScore}
}
