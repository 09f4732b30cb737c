package metrics

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/promtest"
)

const grafana = "../docs/grafana"

// values are those that labels can have, by label; the others have any.
var values = map[string][]string{
	"outcome": outcomes[:],
	"state":   {"ready", "held", "delayed", "running", "dead"},
	"kind":    {"io", "cpu"},
	"result":  {"queued", "claimed", "overlapped", "missed", "failed"},
	"op":      {"queue", "open", "renew", "finish", "heartbeat", "recover"},
	"reason":  append([]string{"timeout", "cancelled", "oom", "protocol", "start"}, reasons[:]...),
}

// fromScraping are the labels that a scrape adds.
var fromScraping = []string{"job", "instance", "le"}

// checkExpression reports what an expression names and this package does not have.
func checkExpression(expression string) (problems []string) {
	families := make(map[string]family)
	for _, f := range allFamilies {
		families[f.name] = f
	}
	// A selector: a name, and what it selects by.
	for _, m := range regexp.MustCompile(`(taskgen_\w+)(?:\{([^}]*)\})?`).FindAllStringSubmatch(expression, -1) {
		f, ok := families[m[1]]
		if base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(m[1], ""); !ok && base != m[1] {
			f, ok = families[base]
			ok = ok && strings.HasSuffix(base, "_seconds")
		}
		if !ok {
			problems = append(problems, "no metric "+m[1])
			continue
		}
		for _, s := range regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"`).FindAllStringSubmatch(m[2], -1) {
			label, value := s[1], s[3]
			if !slices.Contains(f.labels, label) && !slices.Contains(fromScraping, label) {
				problems = append(problems, m[1]+" has no label "+label)
			}
			for v := range strings.SplitSeq(value, "|") {
				if known := values[label]; known != nil && !slices.Contains(known, v) {
					problems = append(problems, "label "+label+" is never "+v)
				}
			}
		}
	}
	var labels []string
	for _, f := range allFamilies {
		labels = append(labels, f.labels...)
	}
	for _, m := range regexp.MustCompile(`\b(?:by|on|without|ignoring)\s*\(([^)]*)\)`).FindAllStringSubmatch(expression, -1) {
		for label := range strings.FieldsFuncSeq(m[1], func(r rune) bool { return r == ',' || r == ' ' }) {
			if !slices.Contains(labels, label) && !slices.Contains(fromScraping, label) {
				problems = append(problems, "no metric has a label "+label)
			}
		}
	}
	return problems
}

// TestPanelsNameWhatIsThere checks the expressions of the dashboard.
func TestPanelsNameWhatIsThere(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(grafana, "taskgen.json"))
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct {
			ID          int
			Type, Title string
			Description string
			Targets     []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	require.NoError(t, json.Unmarshal(b, &dashboard))
	shown := ""
	ids := make(map[int]bool)
	for _, p := range dashboard.Panels {
		require.False(t, ids[p.ID], "panel %q has the id of another", p.Title)
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		require.NotEmpty(t, p.Description, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			require.Empty(t, checkExpression(target.Expr), "panel %q: %s", p.Title, target.Expr)
			shown += target.Expr
		}
	}
	for _, v := range dashboard.Templating.List {
		require.Empty(t, checkExpression(v.Definition), "variable %s", v.Name)
	}
	for _, f := range allFamilies {
		require.Contains(t, shown, f.name, "no panel shows it")
	}
}

// TestAlertsNameWhatIsThere checks the expressions of the alerts, and the chapter that each
// leads to.
func TestAlertsNameWhatIsThere(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(grafana, "alerts.yml"))
	require.NoError(t, err)
	rules := strings.Split(string(b), "- alert: ")[1:]
	require.Greater(t, len(rules), 10)
	guide, err := os.ReadFile("../docs/operating.md")
	require.NoError(t, err)
	for _, rule := range rules {
		name, _, _ := strings.Cut(rule, "\n")
		require.Empty(t, checkExpression(rule), name)
		require.Contains(t, string(guide), "`"+name+"`", "the guide does not tell what to do")
		chapter := regexp.MustCompile(`runbook: docs/operating\.md#(.+)`).FindStringSubmatch(rule)
		require.NotNil(t, chapter, name)
		require.Contains(t, strings.ToLower(string(guide)), "### "+strings.ReplaceAll(chapter[1], "-", " ")+"\n", name)
	}
	for name := range strings.FieldsFuncSeq(string(guide), func(r rune) bool { return r == '`' }) {
		if regexp.MustCompile(`^Taskgen[A-Z]\w+$`).MatchString(name) {
			require.True(t, slices.ContainsFunc(rules, func(rule string) bool { return strings.HasPrefix(rule, name+"\n") }), "there is no alert %s", name)
		}
	}
}

// TestUnknownNamesAreFound: the checks above can fail.
func TestUnknownNamesAreFound(t *testing.T) {
	require.Equal(t, []string{"no metric taskgen_ups"}, checkExpression(`min(taskgen_ups) == 0`))
	require.Equal(t, []string{"no metric taskgen_up_bucket"}, checkExpression(`taskgen_up_bucket`))
	require.Equal(t, []string{"taskgen_wait_seconds_bucket has no label outcome"}, checkExpression(`rate(taskgen_wait_seconds_bucket{outcome="failed"}[5m])`))
	require.Equal(t, []string{"label outcome is never died"}, checkExpression(`taskgen_attempts_total{outcome=~"failed|died"}`))
	require.Equal(t, []string{"no metric has a label tenant"}, checkExpression(`sum by (task, tenant) (taskgen_attempts_total)`))
}

// TestRulesAreRight has promtool check and execute the alerts.
func TestRulesAreRight(t *testing.T) {
	for _, args := range [][]string{
		{"check", "rules", grafana + "/alerts.yml"},
		{"test", "rules", grafana + "/alerts_test.yml"},
	} {
		output, ok := promtest.Tool(t, "", args...)
		require.True(t, ok, output)
	}
}

// TestAllMetricsAreDocumented: the package's doc has each, with its labels.
func TestAllMetricsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	all := make(map[string]bool)
	for _, f := range allFamilies {
		labels := ""
		if len(f.labels) > 0 {
			labels = "{" + strings.Join(f.labels, ",") + "}"
		}
		all[f.name+labels] = true
		require.Regexp(t, regexp.QuoteMeta(f.name+labels)+`[ ,\n]`, string(doc))
	}
	for _, name := range regexp.MustCompile(`taskgen_\w+(\{[\w,]+\})?`).FindAllString(string(doc), -1) {
		require.Contains(t, slices.Collect(maps.Keys(all)), name)
	}
}
