//go:build !windows

package taskapp_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	goruntime "runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/promtest"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// keda is an autoscaler with the semantics of KEDA 2: its triggers metrics-api, prometheus and
// redis, and what the HorizontalPodAutoscaler makes of their values.
type keda struct {
	t      *testing.T
	client *http.Client
}

// metricsAPI is the value of a trigger metrics-api: a number at a place of a JSON reply.
func (k keda) metricsAPI(url, valueLocation string) (float64, error) {
	status, body := get(k.t, k.client, url)
	if status != http.StatusOK {
		return 0, fmt.Errorf("%s: api returned %d", url, status)
	}
	var reply map[string]any
	if err := json.Unmarshal([]byte(body), &reply); err != nil {
		return 0, err
	}
	number, ok := reply[valueLocation].(float64)
	if !ok {
		return 0, fmt.Errorf("valueLocation must point to a number, got %v", reply[valueLocation])
	}
	return number, nil
}

// prometheus is the value of a trigger prometheus. Without a result it is an error, or with
// ignoreNullValues, which is the default, 0.
func (k keda) prometheus(server, query string, ignoreNullValues bool) (float64, error) {
	status, body := get(k.t, k.client, server+"/api/v1/query?query="+url.QueryEscape(query))
	if status != http.StatusOK {
		return 0, fmt.Errorf("prometheus returned %d", status)
	}
	var reply struct {
		Data struct{ Result []struct{ Value []any } }
	}
	if err := json.Unmarshal([]byte(body), &reply); err != nil {
		return 0, err
	}
	switch n := len(reply.Data.Result); {
	case n == 0 && ignoreNullValues:
		return 0, nil
	case n == 0:
		return 0, errors.New("target may be lost, the result is empty")
	case n > 1:
		return 0, errors.New("query returned multiple elements")
	}
	value, _ := reply.Data.Result[0].Value[1].(string)
	return strconv.ParseFloat(value, 64)
}

// redisList is the value of a trigger redis: the length of a list, 0 if there is none.
func (k keda) redisList(server *redistest.Server, name string) (float64, error) {
	n, err := server.Do("LLEN", name)
	if err != nil {
		return 0, err
	}
	return float64(n.(int64)), nil
}

// replicas returns how many there are to be, as there are some. The target is an average for
// each of them. A value of 0 is not active: min. A change of less than a tenth is none.
func (keda) replicas(value, target float64, current, min, max int) int {
	if value <= 0 {
		return min
	}
	if current > 0 && math.Abs(1-value/(target*float64(current))) <= .1 {
		return current
	}
	return int(math.Min(math.Max(math.Ceil(value/target), math.Max(1, float64(min))), float64(max)))
}

// TestAutoscalersSeeTheLoad has KEDA's triggers look at a fleet without consumers, with some,
// and without a broker. A scheduler answers throughout.
func TestAutoscalersSeeTheLoad(t *testing.T) {
	f := newFleet(t)
	scheduler := f.serve(0, "--http", "127.0.0.1:0", "--schedule")
	address := f.address(scheduler)
	prometheus := promtest.Start(t, promtest.Config{Targets: []string{address}, Interval: 500 * time.Millisecond})
	k := keda{t, httpClient(t)}
	scale := "http://" + address + "/scale?queue=mail&slots=20"
	const query = `sum(max by (queue, state) (taskgen_queue_runs{queue="mail",state=~"ready|running"}))`
	sees := func(want int, value func() (float64, error), target float64) {
		t.Helper()
		f.await(fmt.Sprint("the autoscaler wants ", want), func() bool {
			v, err := value()
			return err == nil && k.replicas(v, target, 0, 0, 10) == want
		})
	}
	byScale := func() (float64, error) { return k.metricsAPI(scale, "want") }
	byQuery := func() (float64, error) { return k.prometheus(prometheus.URL(), query, false) }
	sees(0, byScale, 1)
	sees(0, byQuery, 20)

	queue := func(n int, opts ...taskrt.QueueOption) {
		params := make([]tasks.RecorderMailParams, n)
		for i := range params {
			params[i].To = fmt.Sprint(i)
		}
		_, err := tasks.QueueRecorderMailBatch(f.ctx, params, opts...)
		require.NoError(t, err)
	}
	queue(50, taskrt.Delay(time.Hour))
	queue(100)
	sees(5, byScale, 1)
	sees(5, byQuery, 20)

	// The broker is away: both are errors, upon which KEDA leaves the replicas as they are, or
	// takes its fallback. By its default the query would be 0, and no consumer left.
	f.server.Stop()
	f.await("the load is unknown", func() bool {
		_, one := byScale()
		_, two := byQuery()
		return one != nil && two != nil
	})
	ignoring, err := k.prometheus(prometheus.URL(), query, true)
	require.NoError(t, err)
	require.Zero(t, k.replicas(ignoring, 20, 5, 0, 10))
	f.server.Restart()
	sees(5, byScale, 1)
	sees(5, byQuery, 20)

	// Scaling down takes a consumer its runs away in the midst: they execute elsewhere.
	one, two := f.serve(time.Second, "--consume", "--grace", "10ms"), f.serve(0, "--consume")
	load := "http://" + address + "/scale?queue=mail"
	f.await("both are known", func() bool {
		n, err := k.metricsAPI(load, "consumers")
		return err == nil && n == 2
	})
	slots, err := k.metricsAPI(load, "slots")
	require.NoError(t, err)
	require.EqualValues(t, 2*10*goruntime.GOMAXPROCS(0), slots, "those for io, as the queue has no other tasks")
	f.await("both execute runs", func() bool {
		pids := make(map[int]bool)
		for _, e := range f.events() {
			pids[e.pid] = true
		}
		return len(pids) == 2
	})
	require.NoError(t, one.end(syscall.SIGTERM))
	f.await("each run has ended", func() bool { _, ends := f.counts(); return len(ends) == 100 })
	sees(0, byScale, 1)
	sees(0, byQuery, 20)
	require.NoError(t, two.end(syscall.SIGTERM))
}

// TestAScaleDownDuringALongRunLosesNothing has KEDA's trigger redis scale by a ready list. It sees
// no run that executes, so that it scales the only consumer away in the midst of one. With a
// grace that is longer the run ends there; with a shorter one it executes elsewhere.
func TestAScaleDownDuringALongRunLosesNothing(t *testing.T) {
	f := newFleet(t)
	address := f.address(f.serve(0, "--http", "127.0.0.1:0", "--schedule"))
	k := keda{t, httpClient(t)}
	wants := func() int {
		n, err := k.redisList(f.server, "taskgen:{mail}:io:2")
		require.NoError(t, err)
		return k.replicas(n, 20, 0, 0, 10)
	}
	queue := func(to string, opts ...taskrt.QueueOption) {
		_, err := tasks.QueueRecorderMail(f.ctx, to, opts...)
		require.NoError(t, err)
	}
	queue("later", taskrt.Delay(time.Hour))
	require.Zero(t, wants(), "the list has no delayed runs")
	for _, c := range []struct {
		run, grace string
		starts     int
	}{{"patient", "30s", 1}, {"hasty", "100ms", 2}} {
		queue(c.run)
		require.Equal(t, 1, wants(), c.run)
		worker := f.serve(2*time.Second, "--consume", "--queues", "mail", "--grace", c.grace)
		f.await("the run executes", func() bool { starts, _ := f.counts(); return starts[c.run] == 1 })
		require.Zero(t, wants(), "the trigger sees no run that executes")
		byScale, err := k.metricsAPI("http://"+address+"/scale?queue=mail&slots=20", "want")
		require.NoError(t, err)
		require.Equal(t, 1, k.replicas(byScale, 1, 1, 0, 10), "but /scale does")

		require.NoError(t, worker.end(syscall.SIGTERM)) // the scale-down
		if c.starts > 1 {
			require.Equal(t, 1, wants(), "it went back")
			worker = f.serve(0, "--consume", "--queues", "mail")
			f.await("the run has ended elsewhere", func() bool { _, ends := f.counts(); return ends[c.run] > 0 })
			require.NoError(t, worker.end(syscall.SIGTERM))
		}
		starts, ends := f.counts()
		require.Equal(t, 1, ends[c.run], c.run)
		require.Equal(t, c.starts, starts[c.run], c.run)
		require.Zero(t, wants(), "nothing is left")
	}
	require.Empty(t, f.deadLetters())
}

// TestScaleRefusesWhatItCannotAnswer tries its parameters.
func TestScaleRefusesWhatItCannotAnswer(t *testing.T) {
	f := newFleet(t)
	p := f.serve(0, "--http", "127.0.0.1:0")
	c, at := httpClient(t), "http://"+f.address(p)+"/scale"
	for query, want := range map[string]string{
		"?slots=0":                  "400 slots is not a whole number above 0\n",
		"?slots=1&slots=2":          "400 slots is not a whole number above 0\n",
		"?queue=mail&slots=":        "400 slots is not a whole number above 0\n",
		"?queue=":                   "400 queue is empty; leave it out for the queues of the tasks\n",
		"?queu=mail":                "400 no parameter is named queu; they are queue=NAME, repeatable, and slots=N\n",
		"?queue=mail;slots=2":       "400 the parameters cannot be read; they are queue=NAME, repeatable, and slots=N\n",
		"?slots=x":                  "400 slots is not a whole number above 0\n",
		"?queue=nowhere":            "404 no queue is named nowhere\n",
		"?queue=mail&queue=%00%1b[": "404 no queue is named \\x00\\x1b[\n",
	} {
		status, body := get(t, c, at+query)
		require.Equal(t, want, fmt.Sprint(status, " ", body), query)
	}
	status, body := get(t, c, at)
	require.Equal(t, http.StatusOK, status)
	var reply map[string]float64
	require.NoError(t, json.Unmarshal([]byte(body), &reply))
	for _, name := range []string{"queued", "delayed_due", "delayed", "held", "running", "dead", "consumers", "slots", "oldest_seconds", "want"} {
		require.Contains(t, reply, name)
	}
}
