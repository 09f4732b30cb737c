package main

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// outcomeOf is three rounds of two systems: ours does 100, 200 and 400 tasks/s,
// the other 10, 10 and 10, for 2 and 60 µs.
func outcomeOf(goals ...goal) outcome {
	o := outcome{scenario: scenario{
		name: "steady", about: "What is done.", goals: goals,
		subjects: []subject{{name: "taskgen"}, {name: "asynq"}},
		chart:    []charted{{tasksRate, "rate <&>"}, {redisCPU, "Redis CPU"}},
	}}
	ours := []sample{{tasksRate: 100, redisCPU: 2}, {tasksRate: 200, redisCPU: 2}, {tasksRate: 400, redisCPU: 2}}
	theirs := []sample{{tasksRate: 10, redisCPU: 60}, {tasksRate: 10, redisCPU: 60}, {tasksRate: 10, redisCPU: 60}}
	o.samples = [][]sample{ours, theirs}
	return o
}

func TestSpread(t *testing.T) {
	require.Equal(t, spread{2, 1, 9}, spreadOf([]float64{9, 1, 2}))
	require.Equal(t, spread{2.5, 1, 4}, spreadOf([]float64{4, 3, 2, 1}), "an even number of rounds")
	require.True(t, math.IsNaN(spreadOf(nil).median))
	require.Equal(t, spread{0.5, 0.25, 1}, spread{2, 1, 4}.inverse())
}

func TestRatioIsTakenWithinARound(t *testing.T) {
	o := outcomeOf()
	// A round in which the whole machine is ten times slower changes nothing.
	o.samples[0][1], o.samples[1][1] = sample{tasksRate: 20}, sample{tasksRate: 1}
	require.Equal(t, spread{20, 10, 40}, o.ratio(1, tasksRate))
}

func TestRatioToNothing(t *testing.T) {
	o := outcomeOf()
	o.samples[1][2][tasksRate] = 0
	require.True(t, math.IsNaN(o.ratio(1, tasksRate).median))
	require.Contains(t, o.table()[3], "–")
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		goal    goal
		target  string
		ratio   string
		reached bool
	}{
		{goal{figure: tasksRate, against: "asynq", atLeast: 20}, "≥ 20× asynq", "20×", true},
		{goal{figure: tasksRate, against: "asynq", atLeast: 20.1}, "≥ 20× asynq", "20×", false},
		{goal{figure: tasksRate, atLeast: 200}, "≥ 200", "", true},
		{goal{figure: redisCPU, atMost: 2}, "≤ 2", "", true},
		{goal{figure: redisCPU, atMost: 1.9}, "≤ 1.9", "", false},
		{goal{figure: redisCPU, against: "asynq", atMost: 1. / 25}, "≤ 1/25 of asynq", "1/30", true},
		{goal{figure: redisCPU, against: "asynq", atMost: 1. / 40}, "≤ 1/40 of asynq", "1/30", false},
	} {
		o := outcomeOf(c.goal)
		got := o.verdicts()
		require.Len(t, got, 1)
		require.Equal(t, c.target, got[0].target)
		require.Equal(t, c.ratio, got[0].ratio, c.target)
		require.Equal(t, c.reached, got[0].reached, c.target)
	}
	o := outcomeOf(goal{figure: tasksRate, against: "nobody", atLeast: 1})
	require.Empty(t, o.verdicts(), "a goal against what was not measured")
}

func TestNumbers(t *testing.T) {
	for want, v := range map[string]float64{"0.33": 0.333, "5.18": 5.18, "14.5": 14.52, "532": 531.8, "52,074": 52074.4, "1,234,567": 1234567} {
		require.Equal(t, want, number(v))
	}
	for want, v := range map[string]float64{
		"29×": 29.3, "9.4×": 9.41, "2.5×": 2.5, "1.04×": 1.043, "0.87×": 0.87, "1/35": 1. / 35, "0.38×": 1 / 2.6, "1/5.2": 1 / 5.2, "1,825×": 1825.2, "–": math.NaN(),
	} {
		require.Equal(t, want, times(v))
	}
}

func TestPrintedReport(t *testing.T) {
	o := outcomeOf(goal{figure: tasksRate, against: "asynq", atLeast: 25}, goal{figure: redisCPU, atMost: 4})
	var out strings.Builder
	printOutcome(&out, &o)
	printGoals(&out, []outcome{o})
	require.Equal(t, `steady
                   tasks/s       Redis µs/task
  taskgen              200                2.00
    asynq             10.0                60.0
    ratio  20× (10× … 40×)  1/30 (1/30 … 1/30)

MISSED   steady  tasks/s        20× (10× … 40×)  ≥ 25× asynq
reached  steady  Redis µs/task  2.00             ≤ 4
`, out.String())
}

// Each goal names a figure that its scenario can have, and a subject that it has.
func TestGoalsFitTheirScenarios(t *testing.T) {
	all := scenarios(&environment{drain: 100_000, length: 2e9})
	names := make(map[string]bool)
	for _, sc := range all {
		require.False(t, names[sc.name], "two scenarios %q", sc.name)
		names[sc.name] = true
		o := outcome{scenario: sc}
		for _, g := range sc.goals {
			require.True(t, (g.atLeast == 0) != (g.atMost == 0), "%s: one bound", sc.name)
			if g.against != "" {
				require.Positive(t, o.find(g.against), "%s against %s", sc.name, g.against)
			}
		}
	}
}

func TestUnevenTasks(t *testing.T) {
	params, ideal := unevenTasks(2e9)
	var whole, longest, long int64
	for _, p := range params {
		whole += int64(p.D)
		longest = max(longest, int64(p.D))
	}
	for _, p := range params {
		if int64(p.D) == longest {
			long++
		}
	}
	require.EqualValues(t, ideal, whole/fleet)
	require.EqualValues(t, len(params), long*100)
	require.Equal(t, longest, 100*int64(params[0].D))
	require.InDelta(t, 10e9, float64(ideal), 0.1e9)
}
