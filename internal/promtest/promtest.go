// Package promtest runs a real Prometheus for tests, and promtool.
//
// Both are Debian's package prometheus, from the PATH.
package promtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startTimeout is how long a server may take until it is ready.
const startTimeout = 30 * time.Second

const install = "apt-get install prometheus, or run the tests by make test, which does it"

// Server is a Prometheus on a free loopback port.
type Server struct {
	t   testing.TB
	url string
}

// Config is what a server does. Its targets are scraped each Interval.
type Config struct {
	Targets  []string // such as 127.0.0.1:8080
	Interval time.Duration
	Rules    []string // absolute paths
	Native   bool     // it reads native histograms, and then no classic buckets
}

// Start starts a server that ends with the test. If there is no
// prometheus, the test fails, so that nothing looks tested that was not.
func Start(t testing.TB, cfg Config) *Server {
	t.Helper()
	dir, address := t.TempDir(), "127.0.0.1:"+strconv.Itoa(freePort(t))
	config, err := json.Marshal(map[string]any{ // which is YAML
		"global":     map[string]any{"scrape_interval": cfg.Interval.String(), "scrape_timeout": cfg.Interval.String(), "evaluation_interval": cfg.Interval.String()},
		"rule_files": append([]string{}, cfg.Rules...),
		"scrape_configs": []any{map[string]any{
			"job_name": "taskgen", "static_configs": []any{map[string]any{"targets": cfg.Targets}},
		}},
	})
	if err != nil {
		t.Fatalf("write config: %v", err)
	}
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatalf("write config: %v", err)
	}
	log := new(bytes.Buffer)
	args := []string{"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + address, "--log.level=warn"}
	if cfg.Native {
		args = append(args, "--enable-feature=native-histograms")
	}
	cmd := exec.Command("prometheus", args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("start prometheus: %v: %s", err, install)
	}
	exited := make(chan struct{})
	go func() { defer close(exited); _ = cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(startTimeout):
			_ = cmd.Process.Kill()
			<-exited
		}
	})
	s := &Server{t: t, url: "http://" + address}
	Await(t, startTimeout, "prometheus is ready", func() bool {
		select {
		case <-exited:
			t.Fatalf("prometheus has ended: %s", log.String())
		default:
		}
		r, err := http.Get(s.url + "/-/ready")
		if err == nil {
			_ = r.Body.Close()
		}
		return err == nil && r.StatusCode == http.StatusOK
	})
	return s
}

// Await asks again until it is so. Else the test fails.
func Await(t testing.TB, patience time.Duration, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !so(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s until %s", patience, what)
		}
	}
}

// freePort returns a port below the ephemeral ones.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 22_000 + rand.N(8_000)
		if l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatalf("find free port: all 100 that were tried are taken")
	return 0
}

// URL returns the address of the server's API.
func (s *Server) URL() string { return s.url }

// Sample is one series of the result of a query.
type Sample struct {
	Labels map[string]string
	Value  float64
}

// Query evaluates an expression now.
func (s *Server) Query(expression string) []Sample {
	s.t.Helper()
	var reply struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric    map[string]string
				Value     [2]any
				Histogram []any
			}
		}
	}
	s.get("/api/v1/query?query="+url.QueryEscape(expression), &reply)
	if reply.Status != "success" {
		s.t.Fatalf("query %s: %s", expression, reply.Error)
	}
	samples := []Sample{}
	for _, r := range reply.Data.Result {
		value, _ := r.Value[1].(string)
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			s.t.Fatalf("query %s: value %v: %v", expression, r.Value[1], err)
		}
		samples = append(samples, Sample{r.Metric, number})
	}
	return samples
}

// Value evaluates an expression that has one value, or none, false.
func (s *Server) Value(expression string) (value float64, ok bool) {
	s.t.Helper()
	samples := s.Query(expression)
	switch len(samples) {
	case 0:
		return 0, false
	case 1:
		return samples[0].Value, true
	}
	s.t.Fatalf("query %s has %d values", expression, len(samples))
	return 0, false
}

// CheckRules waits until each rule was evaluated without an error.
func (s *Server) CheckRules() {
	s.t.Helper()
	Await(s.t, startTimeout, "all rules are evaluated", func() bool {
		var reply struct {
			Data struct {
				Groups []struct {
					Rules []struct{ Name, Health, LastError string }
				}
			}
		}
		s.get("/api/v1/rules", &reply)
		evaluated := 0
		for _, g := range reply.Data.Groups {
			for _, r := range g.Rules {
				if r.Health == "err" {
					s.t.Fatalf("rule %s: %s", r.Name, r.LastError)
				}
				if r.Health == "ok" {
					evaluated++
				}
			}
		}
		return evaluated > 0 && evaluated == len(reply.Data.Groups[0].Rules)
	})
}

func (s *Server) get(path string, v any) {
	s.t.Helper()
	r, err := http.Get(s.url + path)
	if err != nil {
		s.t.Fatalf("ask prometheus: %v", err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		s.t.Fatalf("read reply of prometheus to %s: %v", path, err)
	}
}

// Tool executes promtool with a standard input. It returns what that printed, and whether it
// succeeded.
func Tool(t testing.TB, input string, args ...string) (output string, ok bool) {
	t.Helper()
	cmd := exec.Command("promtool", args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatalf("execute promtool: %v: %s", err, install)
	}
	return fmt.Sprintf("promtool %s: %s", strings.Join(args, " "), out), err == nil
}
