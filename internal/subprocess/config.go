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

// Config configures a [Pool]. Its zero value works.
type Config struct {
	// Processes is how many children there may be at once, not counting the successor
	// of an expired one. Defaults to GOMAXPROCS.
	Processes int

	// StartTimeout is how long a child may take from its start until its hello.
	// Defaults to 10 seconds.
	StartTimeout time.Duration

	// Grace is the time between asking a child to end its run, or itself, and killing
	// it with its process group. Defaults to 1 second.
	Grace time.Duration

	// Fresh gives each run its own child, which ends with the run.
	Fresh bool

	// MaxRuns, MaxAge and MaxSize bound the life of a child: the number of its runs,
	// its age, and its resident size in bytes between two runs, where the system
	// reports it. When a child reaches a bound, the pool starts a successor, which
	// replaces it once it is ready. They default to 100,000 runs, 1 hour and 1 GiB;
	// negative is no bound.
	MaxRuns int
	MaxAge  time.Duration
	MaxSize int64

	// MaxFailures is how many runs of a child may fail in a row. Then the child is
	// stopped, because a run can damage its process for those that follow.
	//
	// These failures do not count: schema errors, permanent errors, errors with a
	// wait of their own, and runs that snoozed or were cancelled. Timeouts count.
	//
	// The bound doubles with each child that reaches it, until any run succeeds.
	// After a failure a child is used only if no other one is idle. Defaults to 5;
	// negative is no bound.
	MaxFailures int

	// Idle is how long a child without a run is kept. Defaults to 5 minutes; negative
	// keeps it as long as the pool.
	Idle time.Duration

	// Threads is the GOMAXPROCS of a child. Defaults to the parent's divided by
	// Processes, but at least 2: one for the run, and one for the garbage collector
	// and for reading cancellations.
	Threads int

	// Nice is added to the nice value of a child, 0 to 19, so that the parent renews
	// leases while all children are busy. Defaults to 5; negative is 0.
	Nice int

	// OOMScore is a child's oom_score_adj, up to 1000: if the system runs out of
	// memory, it kills a child before the parent. Defaults to 500; negative leaves it
	// unchanged.
	OOMScore int

	// Env lists the variables of a child's environment. An entry is a name, a pattern
	// of [path.Match] such as AWS_*, or KEY=value.
	//
	// If the list has a name or a pattern, it is an allow-list: of the parent's
	// variables, a child gets only those and [DefaultEnv]. If not, a child gets all
	// of them. A KEY=value is added and overrides the parent's. TASKGEN_BROKER passes
	// only if it is named in full.
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

	// Cgroup is a directory of a cgroup v2 hierarchy in which the pool may make
	// groups, with the memory controller enabled for them. Each child then gets a
	// group: a run's cap holds for all processes of the child together, and those
	// that have left its process group are killed too.
	//
	// Defaults to the parent of the process's own group if that was delegated, as by
	// systemd's Delegate=memory with DelegateSubgroup=; otherwise there are no
	// groups.
	Cgroup string

	// MaxFrame is the size in bytes of the largest frame, which bounds runs, results
	// and calls. It is at least 1 MiB and at most 1 GiB. Defaults to 16 MiB.
	MaxFrame int

	// Logger gets the children's output, one record a line with the attributes run,
	// task, pid and stream, standard output at Info and standard error at Warn. It
	// also gets the records of [Parent.Handler] with the attribute pid. A slow logger
	// slows the children down. Defaults to slog.Default.
	//
	// It gets at most 64 KiB of a line. Of a run it gets at most 16 MiB of each
	// stream and of its records, counting 128 bytes extra for each line or record;
	// then it gets one record with the number and size of those cut.
	Logger *slog.Logger

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
