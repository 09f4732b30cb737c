//go:build !windows

// Package main_test executes what docs/operating.md shows.
package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/taskgen/taskgen/internal/promtest"
	"github.com/taskgen/taskgen/internal/redistest"
)

const guide = "../../docs/operating.md"

// block is a fenced block of the guide.
type block struct {
	language, text string
	prints         string // the block of text behind one of sh
}

func blocks(t *testing.T) (all []block) {
	t.Helper()
	b, err := os.ReadFile(guide)
	require.NoError(t, err)
	for _, m := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(string(b), -1) {
		if m[1] == "text" {
			require.Equal(t, "sh", all[len(all)-1].language, "a block of text follows the commands that print it")
			all[len(all)-1].prints = m[2]
			continue
		}
		require.Contains(t, []string{"sh", "yaml"}, m[1])
		all = append(all, block{language: m[1], text: m[2]})
	}
	require.NotEmpty(t, all)
	return all
}

// site is where the guide is tried: a Redis, and a folder with the program.
type site struct {
	t      *testing.T
	ctx    context.Context
	server *redistest.Server
	dir    string
	port   string // of serve --http
	broker string
}

func newSite(t *testing.T) *site {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	s := &site{t: t, ctx: ctx, server: redistest.Start(t), dir: t.TempDir(), port: freePort(t)}
	s.broker = "redis://app:secret@" + s.server.Addr() + "/0?prefix=app"
	require.NoError(t, os.MkdirAll(filepath.Join(s.dir, "bin"), 0o700))
	out, err := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(s.dir, "bin", "app"), ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	// A machine that tests is slower than one that is operated.
	sleep, err := exec.LookPath("sleep")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "bin", "sleep"), []byte("#!/bin/sh\nexec "+sleep+" 4\n"), 0o700))
	return s
}

func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// env is the environment of commands.
func (s *site) env() []string {
	return append(os.Environ(), "PATH="+filepath.Join(s.dir, "bin")+":"+os.Getenv("PATH"),
		"TASKGEN_BROKER="+s.broker)
}

// here returns a text with the addresses of this site in place of the guide's.
func (s *site) here(text string) string {
	_, redisPort, err := net.SplitHostPort(s.server.Addr())
	require.NoError(s.t, err)
	return strings.NewReplacer("redis-cli -h redis ", "redis-cli -h 127.0.0.1 -p "+redisPort+" ", "@redis:6379", "@"+s.server.Addr(),
		"localhost:8080", "127.0.0.1:"+s.port, ":8080", ":"+s.port).Replace(text)
}

// serve starts a serve that ends with the test, and waits until it is ready.
func (s *site) serve(args ...string) *exec.Cmd {
	s.t.Helper()
	cmd := exec.CommandContext(s.ctx, filepath.Join(s.dir, "bin", "app"), append([]string{"serve"}, args...)...)
	log := new(bytes.Buffer)
	cmd.Dir, cmd.Env, cmd.Stderr = s.dir, s.env(), log
	require.NoError(s.t, cmd.Start())
	s.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
		}
		if s.t.Failed() {
			s.t.Logf("serve %q: %s", args, log)
		}
	})
	promtest.Await(s.t, 30*time.Second, "serve is ready", func() bool {
		status, _ := s.get("/readyz")
		return status == http.StatusOK
	})
	return cmd
}

func (s *site) get(path string) (status int, body string) {
	r, err := http.Get("http://127.0.0.1:" + s.port + path)
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	require.NoError(s.t, err)
	return r.StatusCode, string(b)
}

// matches returns the expression for a line of what a block prints: … is anything, a space any
// number of them.
func matches(line string) *regexp.Regexp {
	var parts []string
	for part := range strings.SplitSeq(line, "…") {
		parts = append(parts, regexp.MustCompile(`\s+`).ReplaceAllString(regexp.QuoteMeta(part), `\s+`))
	}
	return regexp.MustCompile(`(?m)^\s*` + strings.Join(parts, ".*"))
}

// TestTheCommandsOfTheGuideWork executes each command of the guide, in order, on a Redis and a
// serve whose user has the rights that the guide names.
func TestTheCommandsOfTheGuideWork(t *testing.T) {
	s := newSite(t)
	backup := freePort(t)
	id, served := "ID", false
	for _, b := range blocks(t) {
		if b.language != "sh" {
			continue
		}
		text := strings.NewReplacer("6380", backup).Replace(s.here(b.text))
		if _, args, ok := strings.Cut(text, "app serve "); ok {
			require.Contains(t, text, "export TASKGEN_BROKER="+s.broker+"\n", "the guide names the broker")
			s.serve(strings.Fields(args)...)
			served = true
			continue
		}
		text = regexp.MustCompile(`\bID\b`).ReplaceAllString(text, id)
		cmd := exec.CommandContext(s.ctx, "bash", "-euo", "pipefail", "-c", text)
		cmd.Dir, cmd.Env = s.dir, s.env()
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", text, out)
		for line := range strings.Lines(b.prints) {
			require.Regexp(t, matches(strings.TrimSpace(line)), string(out), "%s prints %q", text, line)
		}
		if found := regexp.MustCompile(`[0-9A-Z]{26}`).Find(out); found != nil && strings.Contains(text, "dead list") {
			id = string(found)
		}
	}
	require.True(t, served)
	require.NotEqual(t, "ID", id)
	redistest.RequireNothingRefused(t, s.server)
}

// TestTheGuideNamesTheRights compares the rights in the guide with those that the broker's
// tests use.
func TestTheGuideNamesTheRights(t *testing.T) {
	b, err := os.ReadFile(guide)
	require.NoError(t, err)
	_, text, _ := strings.Cut(string(b), "ACL SETUSER app reset on '>secret' ")
	text, _, _ = strings.Cut(text, "```")
	got := strings.Fields(strings.NewReplacer("\\", " ", "'", "").Replace(text))
	got = slices.DeleteFunc(got, func(right string) bool { return right == "-@all" }) // reset has it
	want := slices.Concat(redistest.Rights(), redistest.RiskRights())
	want = slices.DeleteFunc(want, func(right string) bool { return right == "-@all" || right == "resetkeys" })
	slices.Sort(got)
	slices.Sort(want)
	require.Equal(t, want, got, "docs/operating.md, Rights on the server")
	for _, right := range redistest.ClusterRights() {
		require.Contains(t, string(b), strings.TrimPrefix(right, "+"))
	}
}

// manifest is what is looked at in a manifest of Kubernetes.
type manifest struct {
	Kind string
	Spec struct {
		Template struct {
			Spec struct {
				Grace      int `yaml:"terminationGracePeriodSeconds"`
				Containers []struct {
					Args                []string
					Liveness, Readiness probe
					LivenessProbe       probe `yaml:"livenessProbe"`
					ReadinessProbe      probe `yaml:"readinessProbe"`
					Ports               []struct {
						ContainerPort int `yaml:"containerPort"`
					}
					Lifecycle struct {
						PreStop struct{ Sleep struct{ Seconds int } } `yaml:"preStop"`
					}
				}
			}
		}
		Fallback map[string]int
		Triggers []struct {
			Type     string
			Metadata map[string]string
		}
	}
	ScrapeConfigs []any `yaml:"scrape_configs"`
}

type probe struct {
	HTTPGet struct{ Path string } `yaml:"httpGet"`
}

// manifests returns those of the guide.
func manifests(t *testing.T) (all []manifest) {
	t.Helper()
	for _, b := range blocks(t) {
		if b.language != "yaml" {
			continue
		}
		for d := yaml.NewDecoder(strings.NewReader(b.text)); ; {
			var m manifest
			err := d.Decode(&m)
			if err == io.EOF {
				break
			}
			require.NoError(t, err, b.text)
			all = append(all, m)
		}
	}
	return all
}

// TestTheManifestsFitTheProgram starts what the Deployments start, asks its probes, and stops
// it in their time.
func TestTheManifestsFitTheProgram(t *testing.T) {
	s := newSite(t)
	redistest.AllowUser(t, s.server, "app", ">secret", "+config|get")
	deployments := 0
	for _, m := range manifests(t) {
		if m.Kind != "Deployment" {
			continue
		}
		deployments++
		c := m.Spec.Template.Spec.Containers[0]
		require.Equal(t, 8080, c.Ports[0].ContainerPort)
		args := make([]string, len(c.Args)-1)
		for i, arg := range c.Args[1:] {
			args[i] = s.here(arg)
		}
		require.Equal(t, "serve", c.Args[0])
		cmd := s.serve(args...)
		for _, p := range []probe{c.LivenessProbe, c.ReadinessProbe} {
			status, _ := s.get(p.HTTPGet.Path)
			require.Equal(t, http.StatusOK, status, p.HTTPGet.Path)
		}
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, cmd.Wait())
		if at := slices.Index(args, "--grace"); at >= 0 {
			grace, err := time.ParseDuration(args[at+1])
			require.NoError(t, err)
			require.GreaterOrEqual(t, m.Spec.Template.Spec.Grace, int(grace.Seconds())+15+c.Lifecycle.PreStop.Sleep.Seconds)
		}
	}
	require.Equal(t, 2, deployments)
}

// TestTheTriggersFitTheProgram asks a serve what KEDA would, and has promtool check the query
// and the configuration of Prometheus.
func TestTheTriggersFitTheProgram(t *testing.T) {
	s := newSite(t)
	redistest.AllowUser(t, s.server, "app", ">secret", "+config|get")
	s.serve("--http", "127.0.0.1:"+s.port, "--schedule")
	types := map[string]int{}
	for _, m := range manifests(t) {
		for _, trigger := range m.Spec.Triggers {
			types[trigger.Type]++
			require.NotEmpty(t, m.Spec.Fallback, "KEDA needs it while the broker does not reply")
			switch trigger.Type {
			case "metrics-api":
				u, err := url.Parse(trigger.Metadata["url"])
				require.NoError(t, err)
				status, body := s.get(u.RequestURI())
				require.Equal(t, http.StatusOK, status, body)
				var reply map[string]float64
				require.NoError(t, json.Unmarshal([]byte(body), &reply))
				require.Contains(t, reply, trigger.Metadata["valueLocation"])
			case "prometheus":
				require.Equal(t, "false", trigger.Metadata["ignoreNullValues"])
				rules := filepath.Join(t.TempDir(), "rules.yml")
				b, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "keda", "rules": []any{map[string]any{"record": "keda", "expr": trigger.Metadata["query"]}}}}})
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(rules, b, 0o600))
				output, ok := promtest.Tool(t, "", "check", "rules", rules)
				require.True(t, ok, output)
				_, body := s.get("/metrics")
				require.Contains(t, trigger.Metadata["query"], "taskgen_queue_runs{")
				require.Contains(t, body, `taskgen_queue_runs{queue="mail",state="ready"}`)
			case "redis":
				cmd := exec.CommandContext(s.ctx, filepath.Join(s.dir, "bin", "app"), "queue", "welcome", "--to", "ada")
				cmd.Env = s.env()
				require.NoError(t, cmd.Run())
				n, err := s.server.Do("LLEN", trigger.Metadata["listName"])
				require.NoError(t, err)
				require.EqualValues(t, 1, n)
			}
		}
	}
	require.Equal(t, map[string]int{"metrics-api": 1, "prometheus": 1, "redis": 1}, types)
	configs := 0
	for _, b := range blocks(t) {
		if strings.HasPrefix(b.text, "scrape_configs:") {
			configs++
			file := filepath.Join(t.TempDir(), "prometheus.yml")
			// Debian's build knows no Kubernetes.
			text := strings.Replace(b.text, "kubernetes_sd_configs: [{role: pod}]", "static_configs: [{targets: [localhost]}]", 1)
			require.NotEqual(t, b.text, text)
			require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
			output, ok := promtest.Tool(t, "", "check", "config", file)
			require.True(t, ok, output)
		}
	}
	require.Equal(t, 1, configs)
}
