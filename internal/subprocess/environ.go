package subprocess

import (
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
)

// DefaultEnv returns the names and patterns of the environment variables that
// every child gets if its parent has them: where things are, how to write and
// to tell the time, and what the Go runtime and the loader of the binary look
// at. They are named one by one, since GO* would also let
// GOOGLE_APPLICATION_CREDENTIALS through.
func DefaultEnv() []string {
	return []string{
		"PATH", "HOME", "USER", "LOGNAME", "TMPDIR",
		"LANG", "LANGUAGE", "LC_*", "TZ", "ZONEINFO",
		"SSL_CERT_FILE", "SSL_CERT_DIR",
		"GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK", "GORACE", "GOCOVERDIR",
		"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
	}
}

// brokerVariable holds the broker's address and its password. A child talks to
// the broker through its parent.
const brokerVariable = "TASKGEN_BROKER"

// childEnvironment is what a child finds in its environment: of the parent's
// variables those that are allowed, those given with a value, and the mark.
func childEnvironment(list []string) []string {
	allowed := DefaultEnv()
	given := map[string]string{childVariable: "1"}
	for _, entry := range list {
		if name, value, ok := strings.Cut(entry, "="); ok && name != childVariable {
			given[name] = value
		} else if !ok {
			allowed = append(allowed, entry)
		}
	}
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if _, ok := given[name]; !ok && allows(allowed, name) {
			env = append(env, v)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		env = append(env, name+"="+given[name])
	}
	return env
}

func allows(allowed []string, name string) bool {
	if name == brokerVariable {
		return slices.Contains(allowed, name)
	}
	return slices.ContainsFunc(allowed, func(pattern string) bool {
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
