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

// Config says how a pool works. Its zero value works.
type Config struct {
	// Processes is how many children there may be at once, the successor of a
	// expired one not counted. Defaults to GOMAXPROCS.
	Processes int

	// StartTimeout is how long a started child may take until its hello.
	// Defaults to 10 seconds.
	StartTimeout time.Duration

	// Grace is the time between asking a child to end its run, or itself, and
	// killing it with its group. Defaults to 1 second.
	Grace time.Duration

	// Fresh gives each run a child of its own, which ends with it.
	Fresh bool

	// MaxRuns, MaxAge and MaxSize bound what a child lives through: after so
	// many runs, that age or at that resident size in bytes (where the system
	// tells it) between two runs, a successor is started and takes its place
	// once it is ready. They default to 100,000 runs, 1 hour and 1 GiB;
	// negative is no bound.
	MaxRuns int
	MaxAge  time.Duration
	MaxSize int64

	// MaxFailures bounds how many runs of a child may fail in a row: then it ends,
	// and the next run gets another one, for a run can damage its process for
	// those that follow. Verdicts on the input do not count: schema errors, what
	// is permanent and what names its own wait. Nor do runs that were put off or
	// cancelled; those that timed out do, for what a run left may hold them up. The number doubles with each
	// child that ends so, until a run of any child succeeds. After a failure
	// other idle children come first. Defaults to 5; negative is no bound.
	MaxFailures int

	// Idle is how long a child without a run is kept. Defaults to 5 minutes;
	// negative is for as long as the pool.
	Idle time.Duration

	// Threads is the GOMAXPROCS of a child. Defaults to the parent's, divided
	// among Processes children, but at least 2: one for the run and one for
	// the garbage collector and the word that the run is to stop.
	Threads int

	// Nice is added to a child's scheduling priority value, 0 to 19, so that
	// the parent renews leases while all children are busy. Defaults to 5;
	// negative is 0.
	Nice int

	// OOMScore is a child's oom_score_adj, up to 1000: the system that runs out
	// of memory ends a child before its parent. Defaults to 500; negative
	// leaves it as it is.
	OOMScore int

	// Env lists the variables of a child's environment. An entry is a name, a
	// pattern of [path.Match] such as AWS_*, or KEY=value. With a name or a
	// pattern in it the list is an allow-list: a child gets of the parent's
	// variables only those and [DefaultEnv]. Without one it gets all of them. A
	// KEY=value is added and wins. TASKGEN_BROKER passes only by its full name.
	Env []string

	// BrokerURL is the broker's URL, if it is known: a variable of the parent's
	// that gives access to the same broker, whatever its other options, passes only
	// by its full name. Defaults to TASKGEN_BROKER.
	BrokerURL string

	// GrantsBroker, unless it is nil, reports instead of BrokerURL whether a
	// variable's value gives access to the broker. It may be called concurrently.
	GrantsBroker func(value string) bool

	// Schema lists what a child has to know, each with its name as the first
	// word: one whose Serve does not have all of them does not come up. It may
	// have 7,000 entries.
	Schema []string

	// Cgroup is a directory of a cgroup v2 hierarchy in which the pool may make
	// a group for each child, with the memory controller enabled for them: a
	// run's cap then holds for all processes of the child together, and also
	// those that left its process group are killed. Defaults to the parent of
	// the process's own group if that was delegated to it so, as by systemd's
	// Delegate=memory with DelegateSubgroup=; else there are no groups.
	Cgroup string

	// MaxFrame is the size in bytes of the largest frame, and so nearly that
	// of the largest run, result and call. It is at least 1 MiB and at most
	// 1 GiB. Defaults to 16 MiB.
	MaxFrame int

	// Logger gets the children's output, a record a line with the attributes
	// run, task, pid and stream (standard output at Info, standard error at
	// Warn), and the records of Parent.Handler with the attribute pid. A
	// slow one slows the children down. It gets 64 KiB of a line, and 16 MiB of
	// each stream of a run and of its records, for which each line and record
	// counts 128 bytes more than it has; then how much was cut. Defaults to
	// slog.Default.
	Logger *slog.Logger

	// Call serves a request that a run makes while it executes; method and
	// body are the caller's own. Its ctx is that of Run and ends with the run,
	// which waits for it. It is called concurrently. Its error crosses as
	// text. Defaults to one that refuses every call.
	Call func(ctx context.Context, run *broker.TaskRun, method string, body []byte) ([]byte, error)
}

// Check returns an error that names the field that is wrong, as NewPool would.
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
