package subprocess

import (
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/internal/urlaccess"
)

// DefaultEnv returns the names and patterns of the variables that every child gets if
// its parent has them, even if Config.Env lists others: paths, locale, time zone, and
// the variables of the Go runtime and the loader. The list has no GO*, which would
// match GOOGLE_APPLICATION_CREDENTIALS.
func DefaultEnv() []string {
	return []string{
		"PATH", "HOME", "USER", "LOGNAME", "TMPDIR",
		"LANG", "LANGUAGE", "LC_*", "TZ", "ZONEINFO",
		"SSL_CERT_FILE", "SSL_CERT_DIR",
		"GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK", "GORACE", "GOCOVERDIR",
		"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
	}
}

// brokerVariable holds the broker's address and password. A child reaches the broker
// through its parent.
const brokerVariable = "TASKGEN_BROKER"

// environment selects a child's environment variables.
type environment struct {
	allowed []string          // names and patterns of the parent's variables
	given   map[string]string // variables and their values
	// grants reports whether a value gives access to the broker. A variable with such
	// a value passes only if it is named in full.
	grants func(value string) bool
}

func newEnvironment(cfg *Config) environment {
	e := environment{given: make(map[string]string), grants: cfg.GrantsBroker}
	list, broker := cfg.Env, cfg.BrokerURL
	if broker == "" && e.grants == nil {
		broker = os.Getenv(brokerVariable)
	}
	if e.grants == nil {
		e.grants = func(value string) bool { return urlaccess.Shares(value, broker) }
	}
	for _, entry := range list {
		if name, value, ok := strings.Cut(entry, "="); ok {
			e.given[name] = value
		} else {
			e.allowed = append(e.allowed, entry)
		}
	}
	if len(e.allowed) == 0 {
		e.allowed = []string{"*"}
	} else {
		e.allowed = append(e.allowed, DefaultEnv()...)
	}
	return e
}

// list returns the environment of a child, with its start information.
func (e environment) list(mark string) []string {
	e.given[childVariable] = mark
	var env []string
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		if _, ok := e.given[name]; !ok && e.allows(name, value) {
			env = append(env, v)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.given)) {
		env = append(env, name+"="+e.given[name])
	}
	return env
}

// allows reports whether a variable of the parent's passes. A variable that gives
// access to the broker passes only if it is named in full.
func (e environment) allows(name, value string) bool {
	if name == brokerVariable || strings.Contains(value, "://") && e.grants(value) {
		return slices.Contains(e.allowed, name)
	}
	return slices.ContainsFunc(e.allowed, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return ok && err == nil // checkEnv has refused bad patterns
	})
}

func checkEnv(list []string) error {
	for _, entry := range list {
		if name, _, given := strings.Cut(entry, "="); given {
			if name == "" || strings.ContainsRune(entry, 0) {
				return fmt.Errorf("field Env: %q is not KEY=value", entry)
			}
			continue
		}
		if _, err := path.Match(entry, ""); err != nil {
			return fmt.Errorf("field Env: pattern %q: %w", entry, err)
		}
	}
	return nil
}
