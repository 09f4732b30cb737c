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
