package dashboard

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/dashboard/internal/api"
	"github.com/taskgen/taskgen/dashboard/internal/bulk"
	"github.com/taskgen/taskgen/dashboard/internal/web"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// Config is how a dashboard is served. Its zero value works.
type Config struct {
	// Access finds who sends a request. Nil: everybody on this machine may do everything, and
	// nobody else anything.
	Access Access

	Client *taskrt.Client // queues runs. Defaults to one with default settings
	Logger *slog.Logger   // of errors, and a line for each change that somebody makes. Defaults to slog.Default()

	// Prefix is the path in front of all paths where nothing strips it, such as /tasks.
	// Empty: requests arrive for /, /runs and so on. All links are relative.
	Prefix string

	// Hosts are names, such as tasks.example.com, that a proxy on this machine serves, if it
	// sends requests on with them. [Header] trusts no other name from this machine: a page of
	// another site could have its own name resolve to it.
	Hosts []string

	Name string // of the program, as pages show it. Defaults to that of the executable
}

// New returns the dashboard of a broker that has [broker.Controls] and [broker.Records], with
// its HTTP API below api/v1/. By the tasks it decodes parameters, and hides the secret ones of
// them. It starts nothing that has to be stopped. Streams end with the contexts of their
// requests, and changes of all that match with the shutdown of the [http.Server]. It returns
// an error if the broker lacks a part, or two tasks share a name.
func New(b broker.Broker, cfg Config, sets ...[]taskrt.Task) (http.Handler, error) {
	h, err := newHandler(b, cfg, sets)
	if err != nil {
		return nil, fmt.Errorf("make a dashboard: %w", err)
	}
	return h, nil
}

func newHandler(b broker.Broker, cfg Config, sets [][]taskrt.Task) (http.Handler, error) {
	tasks, err := taskrt.MergeTasks(sets...)
	if err != nil {
		return nil, err
	}
	inspector, err := taskrt.NewInspector(b, tasks)
	if err != nil {
		return nil, err
	}
	prefix := strings.TrimSuffix(cfg.Prefix, "/")
	if prefix != "" && !strings.HasPrefix(prefix, "/") {
		return nil, errors.New("Config.Prefix does not begin with a slash")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Client == nil {
		cfg.Client = taskrt.NewClient(b, taskrt.ClientConfig{})
	}
	if cfg.Name == "" {
		cfg.Name = strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	}
	jobs := bulk.New(inspector, cfg.Logger)
	pages, err := web.New(web.Config{
		Broker: b, Inspector: inspector, Client: cfg.Client, Tasks: tasks, Jobs: jobs, Name: cfg.Name, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	programs := api.New(api.Config{
		Broker: b, Inspector: inspector, Client: cfg.Client, Tasks: tasks, Name: cfg.Name, Logger: cfg.Logger,
		Jobs: jobs,
	})
	all := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") {
			programs.ServeHTTP(w, r)
			return
		}
		pages.ServeHTTP(w, r)
	})
	return http.StripPrefix(prefix, guardOf(cfg, tasks).Wrap(all)), nil
}

// Restrict returns a handler that lets a request pass to the next one, such as that of
// metrics, if its user may do the action with all tasks. Of cfg it uses Access and Logger.
func Restrict(next http.Handler, action Action, cfg Config) http.Handler {
	return guardOf(cfg, nil).Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		access.EntryOf(r.Context()).Set(access.Action(action), "")
		if err := access.Check(r.Context(), access.Action(action), ""); err != nil {
			access.Refuse(w, r, http.StatusForbidden, err.Error())
			return
		}
		next.ServeHTTP(w, r)
	}))
}

// guardOf returns what stands in front of all handlers.
func guardOf(cfg Config, tasks []taskrt.Task) *access.Guard {
	g := access.GuardConfig{Finder: finderOf(cfg.Access), Logger: cfg.Logger, Hosts: cfg.Hosts, NamesOf: func(task string) []string {
		for _, t := range tasks {
			if t.Name() == task {
				return append([]string{task}, t.Spec().Aliases...)
			}
		}
		return []string{task}
	}}
	return access.NewGuard(g)
}
