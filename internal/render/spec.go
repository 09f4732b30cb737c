package render

import (
	"strings"
	"time"

	"github.com/dave/jennifer/jen"

	"github.com/taskgen/taskgen/internal/directive"
	"github.com/taskgen/taskgen/internal/scan"
	"github.com/taskgen/taskgen/internal/schema"
)

// spec returns the fields of a task's Spec without defaults.
func (g *generator) spec(t *scan.Task) []field {
	o := &t.Options
	fields := []field{{"Name", jen.Lit(t.Name)}}
	add := func(present bool, name string, value func() *jen.Statement) {
		if present && (g.client == nil || !onlyForWorkers(name)) {
			fields = append(fields, field{name, value()})
		}
	}
	lit := func(v any) func() *jen.Statement { return func() *jen.Statement { return jen.Lit(v) } }
	duration := func(d time.Duration) func() *jen.Statement {
		return func() *jen.Statement { return g.duration(d) }
	}
	add(len(o.Aliases) > 0, "Aliases", texts(wordTexts(o.Aliases)))
	add(t.Doc != "", "Doc", lit(t.Doc))
	add(true, "Kind", func() *jen.Statement { return g.runtime(strings.ToUpper(o.Kind)) })
	add(o.Queue != "", "Queue", lit(o.Queue))
	add(len(o.From) > 0, "From", texts(o.From))
	add(o.Priority != "" && o.Priority != "medium", "Priority", func() *jen.Statement { return g.runtime(title(o.Priority)) })
	add(o.SchedulePos.IsValid(), "Schedule", func() *jen.Statement { return g.schedule(o) })
	add(o.Retry != nil, "Retry", func() *jen.Statement { return g.retry(o.Retry) })
	add(o.Timeout != 0, "Timeout", duration(o.Timeout))
	add(o.Expire != 0, "Expire", duration(o.Expire))
	add(t.Keep() != 0, "Keep", duration(t.Keep()))
	add(o.KeepParams, "KeepParams", lit(true))
	add(o.Unique != nil, "Unique", func() *jen.Statement { return g.duration(o.Unique.For) })
	add(o.Unique != nil && o.Unique.UntilStart, "UniqueUntilStart", lit(true))
	add(o.Concurrency != nil || o.Rate != nil, "Limit", func() *jen.Statement { return g.limit(o) })
	add(o.Fair != nil, "Fair", lit(true))
	by := g.keyPaths(t)
	add(len(by) > 0, "By", func() *jen.Statement { return g.runtime("KeyPaths").Values(by...) })
	add(o.Memory != 0, "Memory", func() *jen.Statement { return memory(o.Memory) })
	add(len(o.Env) > 0, "Env", texts(o.Env))
	add(len(o.Secrets) > 0, "Secrets", texts(wordTexts(o.Secrets)))
	add(len(o.Tags) > 0, "Tags", texts(o.Tags))
	add(o.Trace == "child", "Trace", func() *jen.Statement { return g.runtime("TraceChild") })
	add(len(t.Params) > 0, "Params", func() *jen.Statement { return jen.Lit(schema.Params(t.WireParams())) })
	add(t.Result != nil, "Result", func() *jen.Statement { return jen.Lit(t.WireResult().String()) })
	return fields
}

// keyPaths renders what the keys of the policies with by= are made of.
func (g *generator) keyPaths(t *scan.Task) []jen.Code {
	var values []jen.Code
	add := func(name string, keys []*scan.Key) {
		var paths []string
		for _, k := range keys {
			paths = append(paths, k.Wire())
		}
		if len(paths) > 0 {
			values = append(values, jen.Id(name).Op(":").Add(texts(paths)()))
		}
	}
	if u := t.Options.Unique; u != nil && len(u.By) > 0 {
		add("Unique", t.Unique)
	}
	add("Concurrency", t.Limit)
	add("Rate", t.Rate)
	if t.Fair != nil {
		add("Fair", []*scan.Key{t.Fair})
	}
	return values
}

// texts renders a list of strings.
func texts(list []string) func() *jen.Statement {
	return func() *jen.Statement {
		return jen.Index().String().ValuesFunc(func(values *jen.Group) {
			for _, text := range list {
				values.Lit(text)
			}
		})
	}
}

func wordTexts(words []directive.Word) []string {
	var list []string
	for _, w := range words {
		list = append(list, w.Text)
	}
	return list
}

// schedule renders a task's schedule.
func (g *generator) schedule(o *directive.Options) *jen.Statement {
	var values []jen.Code
	add := func(present bool, name string, value func() *jen.Statement) {
		if present {
			values = append(values, jen.Id(name).Op(":").Add(value()))
		}
	}
	lit := func(v any) func() *jen.Statement { return func() *jen.Statement { return jen.Lit(v) } }
	add(o.Every != 0, "Every", func() *jen.Statement { return g.duration(o.Every) })
	add(o.Start, "Start", lit(true))
	add(o.Cron != "", "Cron", lit(o.Cron))
	add(o.Zone != "", "Zone", lit(o.Zone))
	add(o.Jitter != 0, "Jitter", func() *jen.Statement { return g.duration(o.Jitter) })
	add(o.Missed == "skip" || o.Missed == "all", "Missed", func() *jen.Statement { return g.runtime("Missed" + title(o.Missed)) })
	add(o.MissedMax != 0, "MissedMax", lit(o.MissedMax))
	add(o.SkipOverlap, "SkipOverlap", lit(true))
	return g.runtime("Timing").Values(values...)
}

func (g *generator) limit(o *directive.Options) *jen.Statement {
	var values []jen.Code
	if o.Concurrency != nil {
		values = append(values, jen.Id("Concurrency").Op(":").Lit(o.Concurrency.Max))
	}
	if o.Rate != nil {
		values = append(values,
			jen.Id("Rate").Op(":").Lit(o.Rate.Max),
			jen.Id("Per").Op(":").Add(g.duration(o.Rate.Per)))
		if o.Rate.Smooth {
			values = append(values, jen.Id("Smooth").Op(":").Lit(true))
		}
	}
	return g.runtime("Limit").Values(values...)
}

// memory renders bytes in the largest binary unit that divides them.
func memory(bytes int64) *jen.Statement {
	shift := 10
	for shift < 40 && bytes%(1<<(shift+10)) == 0 {
		shift += 10
	}
	return jen.Lit(int(bytes >> shift)).Op("<<").Lit(shift)
}

func (g *generator) retry(r *directive.Retry) *jen.Statement {
	values := []jen.Code{jen.Id("Attempts").Op(":").Lit(r.Retries + 1)}
	if r.Max != 0 {
		values = append(values, jen.Id("Min").Op(":").Add(g.duration(r.Min)), jen.Id("Max").Op(":").Add(g.duration(r.Max)))
	}
	if r.Factor != 0 {
		values = append(values, jen.Id("Factor").Op(":").Id(decimal(r.Factor)))
	}
	return g.runtime("RetryPolicy").Values(values...)
}

// duration renders d in the largest unit that divides it.
func (g *generator) duration(d time.Duration) *jen.Statement {
	if d == 0 {
		return jen.Lit(0)
	}
	units := []struct {
		name string
		unit time.Duration
	}{
		{"Hour", time.Hour}, {"Minute", time.Minute}, {"Second", time.Second},
		{"Millisecond", time.Millisecond}, {"Microsecond", time.Microsecond}, {"Nanosecond", 1},
	}
	for _, u := range units {
		if d%u.unit == 0 {
			unit := g.names.qual("time", "time", u.name)
			if d == u.unit {
				return unit
			}
			return jen.Lit(int(d / u.unit)).Op("*").Add(unit)
		}
	}
	return nil // unreachable: one nanosecond divides every duration
}
