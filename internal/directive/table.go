package directive

import (
	"maps"
	"slices"

	"github.com/taskgen/taskgen/internal/suggest"
)

// rule is the grammar of one directive.
type rule struct {
	option     bool                   // is an option of a task: requires //task:io or //task:cpu
	repeatable bool                   // may be given more than once
	source     bool                   // its argument is Go source, which apply takes from Rest
	quoted     bool                   // its argument may have spaces, and must then be quoted
	min, max   int                    // positional arguments; max -1: any number
	keys       []string               // allowed keys of key=value
	lists      []string               // those of keys that may be given more than once
	flags      []string               // allowed words after the positional arguments
	usage      string                 // an example, for errors
	apply      func(*builder, *parts) // sets the options
}

// table is the grammar, one row for each directive. It is read-only.
var table = map[string]rule{
	"io":  {usage: "//task:io", apply: applyKind},
	"cpu": {usage: "//task:cpu", apply: applyKind},

	"name":     {option: true, min: 1, max: 1, usage: "//task:name heavy_calculation", apply: applyName},
	"alias":    {option: true, repeatable: true, min: 1, max: 1, usage: "//task:alias old_name", apply: applyAlias},
	"queue":    {option: true, min: 1, max: 1, keys: []string{"from"}, lists: []string{"from"}, usage: "//task:queue critical", apply: applyQueue},
	"priority": {option: true, min: 1, max: 1, usage: "//task:priority high", apply: applyPriority},
	"tags":     {option: true, min: 1, max: -1, usage: "//task:tags billing nightly", apply: applyTags},
	"trace":    {option: true, min: 1, max: 1, usage: "//task:trace child", apply: applyTrace},

	"every":   {option: true, min: 1, max: 1, keys: []string{"jitter"}, flags: []string{"start"}, usage: "//task:every 10s", apply: applyEvery},
	"cron":    {option: true, quoted: true, min: 1, max: 1, keys: []string{"tz", "jitter"}, usage: `//task:cron "0 3 * * *"`, apply: applyCron},
	"missed":  {option: true, min: 1, max: 1, keys: []string{"max"}, usage: "//task:missed latest", apply: applyMissed},
	"overlap": {option: true, min: 1, max: 1, usage: "//task:overlap skip", apply: applyOverlap},

	"retry":   {option: true, min: 1, max: 1, keys: []string{"backoff", "factor"}, usage: "//task:retry 5 backoff=1s..10m factor=2", apply: applyRetry},
	"timeout": {option: true, min: 1, max: 1, usage: "//task:timeout 30s", apply: applyTimeout},
	"expire":  {option: true, min: 1, max: 1, usage: "//task:expire 1h", apply: applyExpire},
	"result":  {option: true, min: 1, max: 1, flags: []string{"params"}, usage: "//task:result 1h", apply: applyResult},

	"unique":      {option: true, min: 1, max: 1, keys: []string{"by", "until"}, usage: "//task:unique 10m by=dataID", apply: applyUnique},
	"concurrency": {option: true, min: 1, max: 1, keys: []string{"by"}, usage: "//task:concurrency 4 by=tenantID", apply: applyConcurrency},
	"rate":        {option: true, min: 1, max: 1, keys: []string{"by"}, flags: []string{"smooth"}, usage: "//task:rate 100/1m by=tenantID", apply: applyRate},
	"fair":        {option: true, min: 1, max: 1, usage: "//task:fair tenantID", apply: applyFair},

	"memory": {option: true, min: 1, max: 1, usage: "//task:memory 512MiB", apply: applyMemory},
	"env":    {option: true, repeatable: true, quoted: true, min: 1, max: 1, usage: `//task:env "KEY=some value"`, apply: applyEnv},

	"secret":  {option: true, repeatable: true, min: 1, max: 1, usage: "//task:secret password", apply: applySecret},
	"default": {option: true, repeatable: true, source: true, usage: `//task:default tenantID "none"`, apply: applyDefault},
	"rename":  {option: true, repeatable: true, min: 1, max: 2, keys: []string{"from"}, usage: "//task:rename tenantID from=tenant", apply: applyRename},
}

// names returns the names of all directives, sorted.
func names() []string { return slices.Sorted(maps.Keys(table)) }

// closest returns the known word that was most likely meant, or "" if none is
// similar.
func closest(word string, known []string) string {
	return suggest.Closest(word, known, 1+len(word)/4)
}
