package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// family is one metric of this package with its labels.
type family struct {
	*prometheus.Desc
	name   string
	labels []string
}

func newFamily(name, help string, labels ...string) family {
	name = "taskgen_" + name
	return family{prometheus.NewDesc(name, help, labels, nil), name, labels}
}

var (
	runsQueued  = newFamily("runs_queued_total", "Runs that clients of this process have queued.", "task", "queue")
	runsRefused = newFamily("runs_refused_total", "Runs that clients of this process could not queue, and follow-ups that were skipped.", "task", "reason")
	attempts    = newFamily("attempts_total", "Attempts whose outcome is recorded, and runs that ended without one.", "task", "queue", "outcome")
	took        = newFamily("attempt_duration_seconds", "From the start of an attempt to its end.", "task")
	waits       = newFamily("wait_seconds", "From when a run is due to the start of an attempt.", "task", "queue")
	totals      = newFamily("total_seconds", "From the queueing of a run to its end.", "task")
	successes   = newFamily("last_success_timestamp_seconds", "When a run succeeded last in this process.", "task")
	fenced      = newFamily("outcomes_fenced_total", "Outcomes that the broker refused, as the lease of the run was lost.")

	slots       = newFamily("slots", "Runs that this process executes at once at most.", "kind")
	slotsBusy   = newFamily("slots_busy", "Runs that this process executes.", "kind")
	childKills  = newFamily("child_kills_total", "Child processes that were killed.", "reason")
	leasesLost  = newFamily("leases_lost_total", "Sessions that lost their lease.")
	recovered   = newFamily("runs_recovered_total", "Runs of dead consumers that this process returned to their queues.")
	requests    = newFamily("broker_operation_seconds", "Requests to the broker. Takes are none: they wait for runs.", "op")
	ticks       = newFamily("ticks_total", "Instants of schedules that this process has dealt with.", "task", "result")
	tickLag     = newFamily("tick_lag_seconds", "From the instant of a tick to its queueing.")
	up          = newFamily("up", "Whether the broker replied to this scrape.")
	unread      = newFamily("queues_unread", "Queues that could not be read, or not in full.")
	queueRuns   = newFamily("queue_runs", "Runs of a queue by their state.", "queue", "state")
	queueOldest = newFamily("queue_oldest_seconds", "How long the run is due that waits the longest.", "queue")
	queuePaused = newFamily("queue_paused", "Whether the queue is paused.", "queue")
	deadDropped = newFamily("dead_dropped_total", "Dead letters that were removed because there were too many.", "queue")
	allFamilies = []family{
		runsQueued, runsRefused, attempts, took, waits, totals, successes, fenced,
		slots, slotsBusy, childKills, leasesLost, recovered, requests, ticks, tickLag,
		up, unread, queueRuns, queueOldest, queuePaused, deadDropped,
	}
)

// emitter sends metrics to Prometheus.
type emitter chan<- prometheus.Metric

func (e emitter) counter(f family, n uint64, labels ...string) {
	e <- prometheus.MustNewConstMetric(f.Desc, prometheus.CounterValue, float64(n), labels...)
}

func (e emitter) gauge(f family, v float64, labels ...string) {
	e <- prometheus.MustNewConstMetric(f.Desc, prometheus.GaugeValue, v, labels...)
}

func (e emitter) flag(f family, is bool, labels ...string) {
	v := 0.0
	if is {
		v = 1
	}
	e.gauge(f, v, labels...)
}

func (e emitter) histogram(f family, h *dto.Histogram, labels ...string) {
	e <- &histogramMetric{f.Desc, prometheus.MakeLabelPairs(f.Desc, labels), h}
}

// histogramMetric is a [prometheus.Metric] with classic and native buckets.
type histogramMetric struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	value  *dto.Histogram
}

func (m *histogramMetric) Desc() *prometheus.Desc { return m.desc }

func (m *histogramMetric) Write(out *dto.Metric) error {
	out.Label, out.Histogram = m.labels, m.value
	return nil
}
