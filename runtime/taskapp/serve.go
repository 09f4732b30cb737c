package taskapp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/dashboard"
	"github.com/taskgen/taskgen/internal/sigpipe"
	"github.com/taskgen/taskgen/internal/subprocess"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// serveOptions are the flags of serve.
type serveOptions struct {
	broker            string
	consume, schedule bool
	consumer          taskrt.ConsumerConfig
	http              string // address; empty: none
	auth              httpAccess
	prefix            string   // path in front of the dashboard's
	hosts             []string // that a proxy on this machine serves
	level             slog.Level
	json              bool
}

func (c *commandLine) serveCommand() *cobra.Command {
	o := &serveOptions{consumer: c.app.Consumer}
	cmd := c.command(manual{
		use: "serve", short: "execute and schedule tasks until interrupted",
		long:    "Executes queued tasks and queues the periodic ones, until interrupted.\nWith only one of --consume and --schedule it does only that.",
		example: "serve --consume --queues critical=6,default=3",
	}, c.noWords, func(ctx context.Context, cmd *cobra.Command, _ []string) error {
		if err := o.check(cmd.Flags(), c.app.Access); err != nil {
			return err
		}
		return c.serve(ctx, o, cmd.Flags())
	})
	o.addTo(cmd.Flags())
	completeFlags(cmd, c.flagCompletions())
	return cmd
}

func (c *commandLine) serve(ctx context.Context, o *serveOptions, given *pflag.FlagSet) error {
	if !o.consume && !o.schedule {
		o.consume, o.schedule = true, true
	}
	defer sigpipe.Drop()()
	logger := o.logger(c, given)
	web, err := listen(ctx, o.http)
	if err != nil {
		return err
	}
	defer web.close(logger)
	b, closeBroker, err := c.openBroker(ctx, o.broker, logger)
	if err != nil {
		return err
	}
	defer closeBroker()
	defer web.close(logger) // while the broker is open
	o.consumer.Logger, o.consumer.StopHint = logger, "a second signal stops at once"
	c.withhold(&o.consumer.Children, o.broker)
	clientConfig := c.app.clientConfig()
	if web != nil {
		measure(&o.consumer, &clientConfig)
	}
	r, err := c.roles(b, o, web.address())
	if err != nil {
		return err
	}
	client := taskrt.NewClient(b, clientConfig)
	taskrt.SetDefault(client)
	ctx = taskrt.WithClient(ctx, client)
	s := newServing(b, r, client, o, logger)
	web.start(c.app.handler(s), logger) // before Start, which may take its time: the process lives
	if err := c.app.start(ctx); err != nil {
		return err
	}
	defer c.app.stop(ctx, logger)
	c.logServing(ctx, b, o, web.address())
	defer s.begin(ctx)()
	loops := append(r.loops(b, logger), web.wait)
	if o.consume {
		i, err := taskrt.NewInspector(b, r.tasks)
		if err != nil {
			return err
		}
		loops = append(loops, func(ctx context.Context) error {
			watchStranded(ctx, i, func(task string) bool { return c.tasks.byName[task] != nil }, logger)
			return nil
		})
	}
	err = runAll(ctx, loops)
	logger.Info("stopped")
	if c.isEmbedded(o.broker) {
		logBacklog(logger, b)
	}
	return err
}

// logServing logs the roles, the broker and its risks.
func (c *commandLine) logServing(ctx context.Context, b broker.Broker, o *serveOptions, address string) {
	logger, url := o.consumer.Logger, c.brokers(nil).URL(o.broker)
	attrs := []any{"tasks", len(c.tasks.list), "broker", brokerurl.Redact(url), "consume", o.consume, "schedule", o.schedule}
	if p, ok := b.(maintenance.Prefixer); ok {
		attrs = append(attrs, "prefix", p.Prefix())
	}
	if o.consume && c.tasks.has(taskrt.CPU) {
		attrs = append(attrs, "children_held_by", strings.Join(subprocess.Capabilities(), " "))
	}
	if address != "" {
		attrs = append(attrs, "http", address)
	}
	warnIfUnverified(url, logger)
	if durability := warnOfRisks(ctx, b, logger); durability != "" {
		attrs = append(attrs, "durability", durability)
	}
	logger.Info("serving", attrs...)
}

func (o *serveOptions) addTo(set *pflag.FlagSet) {
	set.StringVar(&o.broker, "broker", "", "URL of the broker")
	set.BoolVar(&o.consume, "consume", false, "execute queued tasks")
	set.BoolVar(&o.schedule, "schedule", false, "queue the periodic tasks")
	intVar(set, &o.consumer.Concurrency, "concurrency", "io tasks at once (0: 10 for each CPU)")
	intVar(set, &o.consumer.Processes, "processes", "child processes for CPU-bound tasks (0: one for each CPU)")
	set.Func("queues", "queues to take from with their weights, such as critical=6,default=3 (default those of the tasks)", func(text string) (err error) {
		o.consumer.Queues, err = parseQueues(text)
		return err
	})
	childEnvVar(set, &o.consumer.Children.Env)
	set.BoolVar(&o.consumer.Strict, "strict", o.consumer.Strict, "take the weights of --queues as an order")
	durationVar(set, &o.consumer.Grace, "grace", "how long running tasks may go on at the stop (default 30s)")
	durationVar(set, &o.consumer.Lease, "lease", "without a sign of life for so long, the runs start elsewhere (default 10s)")
	set.StringVar(&o.http, "http", "", "address of the dashboard, API, metrics and probes, such as 127.0.0.1:8080 (default none)")
	set.Func("http-auth", "who may ask: probes (all, for metrics, probes and /scale alone), basic:FILE, bearer:FILE or header:NAME,ROLE[,PROXY…]; repeatable (default this machine)", o.auth.add)
	textVar(set, &o.prefix, "http-prefix", "path in front of the dashboard's, such as /tasks, where no proxy strips it")
	set.Func("http-host", "name that a proxy on this machine serves and sends on, such as tasks.example.com, for --http-auth header; repeatable", func(name string) error {
		if name == "" || strings.ContainsAny(name, "/: ") {
			return errors.New("it is a name without a port, such as tasks.example.com")
		}
		o.hosts = append(o.hosts, name)
		return nil
	})
	set.Func("log", "least level that is logged: debug, info, warn or error (default info)", func(text string) error {
		if o.level.UnmarshalText([]byte(text)) != nil {
			return errors.New("none of debug, info, warn and error")
		}
		return nil
	})
	set.BoolVar(&o.json, "json", false, "log JSON")
}

// check refuses values that no consumer can have.
func (o *serveOptions) check(given *pflag.FlagSet, own dashboard.Access) error {
	if given.Changed("grace") && o.consumer.Grace == 0 {
		o.consumer.Grace = 1 // none; the zero value is the default
	}
	if given.Changed("lease") && o.consumer.Lease == 0 {
		return usagef("serve", "--lease is 0s, it must be at least 100ms") // the zero value is the default
	}
	if err := o.checkHTTP(own); err != nil {
		return err
	}
	err := o.consumer.Validate()
	if err == nil {
		return nil
	}
	field, problem, _ := strings.Cut(strings.TrimPrefix(err.Error(), "field "), " ")
	name := strings.Replace(strings.ToLower(field), "children", "child-env", 1)
	if !given.Changed(strings.TrimSuffix(name, ":")) {
		return fmt.Errorf("App.Consumer: %w", err)
	}
	return usagef("serve", "--%s %s", name, problem)
}

// logger returns the application's own logger, unless flags ask for another.
func (o *serveOptions) logger(c *commandLine, given *pflag.FlagSet) *slog.Logger {
	if own := c.app.Consumer.Logger; own != nil && !given.Changed("log") && !given.Changed("json") {
		return own
	}
	options := &slog.HandlerOptions{Level: o.level}
	if o.json {
		return c.app.newLogger(slog.NewJSONHandler(c.stderr, options))
	}
	return c.app.newLogger(slog.NewTextHandler(c.stderr, options))
}

// childEnvVar adds the flag that replaces [taskrt.ChildConfig].Env.
func childEnvVar(set *pflag.FlagSet, env *[]string) {
	first := true
	set.Func("child-env", "environment variable for child processes: KEY=value, or a name or pattern such as AWS_*, which leaves out all others; repeatable", func(text string) error {
		if text == "" || text[0] == '=' {
			return errors.New("it names nothing")
		}
		if first {
			*env, first = nil, false
		}
		*env = append(*env, text)
		return nil
	})
}

// parseQueues reads name=weight,name=weight; a weight left out is 1.
func parseQueues(text string) (map[string]int, error) {
	queues := make(map[string]int)
	for part := range strings.SplitSeq(text, ",") {
		name, weight, found := strings.Cut(strings.TrimSpace(part), "=")
		if name == "" {
			return nil, errors.New("a queue has no name")
		}
		if _, twice := queues[name]; twice {
			return nil, fmt.Errorf("queue %s stands twice", name)
		}
		queues[name] = 1
		if !found {
			continue
		}
		n, err := strconv.Atoi(weight)
		if err != nil {
			return nil, fmt.Errorf("the weight %q of queue %s is not a number", weight, name)
		}
		queues[name] = n
	}
	return queues, nil
}

// roles are the parts of serve.
type roles struct {
	tasks     []taskrt.Task
	consumer  *taskrt.Consumer  // nil: none
	scheduler *taskrt.Scheduler // nil: none
}

// roles makes the parts of serve. address is where it serves metrics.
func (c *commandLine) roles(b broker.Broker, o *serveOptions, address string) (r roles, err error) {
	for _, t := range c.tasks.list {
		r.tasks = append(r.tasks, t.Task)
	}
	if o.consume {
		o.consumer.Address = cmp.Or(address, o.consumer.Address)
		if r.consumer, err = taskrt.NewConsumer(b, o.consumer, r.tasks); err != nil {
			return r, err
		}
	}
	if o.schedule {
		cfg := c.app.Scheduler
		cfg.Address = cmp.Or(address, cfg.Address)
		if cfg.Logger == nil {
			cfg.Logger = o.consumer.Logger
		}
		r.scheduler, err = taskrt.NewScheduler(b, cfg, r.tasks)
	}
	return r, err
}

// loops returns what serve runs until it stops.
func (r roles) loops(b broker.Broker, logger *slog.Logger) (loops []func(context.Context) error) {
	if r.consumer != nil {
		loops = append(loops, r.consumer.Run)
	}
	if r.scheduler != nil {
		loops = append(loops, r.scheduler.Run)
	}
	if r.consumer == nil { // a consumer does that itself
		loops = append(loops, func(ctx context.Context) error {
			taskrt.WatchRisks(ctx, b, logger)
			<-ctx.Done()
			return nil
		})
	}
	return loops
}

// runAll runs the roles until ctx ends or one of them does, which stops the
// others.
func runAll(ctx context.Context, roles []func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(roles))
	var wg sync.WaitGroup
	for i, role := range roles {
		wg.Go(func() {
			defer cancel()
			errs[i] = role(ctx)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// logBacklog logs the runs that are lost with an embedded broker.
func logBacklog(logger *slog.Logger, b broker.Broker) {
	lengths, err := b.QueueLength(context.Background())
	if err != nil {
		return
	}
	for _, queue := range slices.Sorted(maps.Keys(lengths)) {
		if lengths[queue] > 0 {
			logger.Warn("runs are lost with the embedded broker; a redis: broker keeps them", "queue", queue, "runs", lengths[queue])
		}
	}
}
