package tasks

import (
	"context"
	"errors"
	"fmt"
	"time"

	taskrt "github.com/taskgen/taskgen/runtime"
)

// Total adds numbers.
//
//task:io
//task:retry 0
func Total(ctx context.Context, numbers []int64) (int64, error) {
	var total int64
	for _, n := range numbers {
		total += n
	}
	return total, nil
}

// List returns its numbers.
//
//task:io
func List(ctx context.Context, numbers []int64) ([]int64, error) { return numbers, nil }

// Spread halves numbers and adds the halves, by a call that it returns.
//
//task:io
func Spread(ctx context.Context, numbers []int64) (taskrt.Call[int64], error) {
	return spread(numbers), nil
}

// Fan is Spread in a child process.
//
//task:cpu
func Fan(ctx context.Context, numbers []int64) (taskrt.Call[int64], error) {
	return spread(numbers), nil
}

func spread(numbers []int64) taskrt.Call[int64] {
	members := make([]taskrt.Call[int64], len(numbers))
	for i, n := range numbers {
		members[i] = CallHalf(n)
	}
	return taskrt.Group(members, NextTotal())
}

// Give returns a call of the form that it is told.
//
//task:io
//task:retry 1 backoff=1ms..2ms
func Give(ctx context.Context, form string, n int64) (taskrt.Call[int64], error) {
	return give(ctx, form, n)
}

// Hand is Give in a child process.
//
//task:cpu
//task:retry 1 backoff=1ms..2ms
func Hand(ctx context.Context, form string, n int64) (taskrt.Call[int64], error) {
	return give(ctx, form, n)
}

func give(ctx context.Context, form string, n int64) (taskrt.Call[int64], error) {
	run, _ := taskrt.CurrentRun(ctx)
	half := CallHalf(n)
	switch form {
	case "single":
		return half, nil
	case "chain":
		return taskrt.Then(half, NextHalf()), nil
	case "group":
		return spread([]int64{n, n}), nil
	case "tree":
		return taskrt.Group([]taskrt.Call[int64]{half, spread([]int64{n, n}), CallGive("chain", n)}, NextTotal()), nil
	case "after":
		return taskrt.Then(half, taskrt.After[int64](spread([]int64{n, n}))), nil
	case "elsewhere":
		return taskrt.Then(half.With(taskrt.OnQueue("other")), NextHalf()), nil
	case "named":
		return half.With(taskrt.ID(fmt.Sprint("named-", n))), nil
	case "later":
		return taskrt.Then(half.With(taskrt.Delay(time.Hour)), NextHalf()), nil
	case "same":
		return half.With(taskrt.ID(run.ID)), nil
	case "same down": // continues itself twice
		if n > 0 {
			return CallGive(form, n-20).With(taskrt.ID(run.ID)), nil
		}
		return CallHalf(40).With(taskrt.ID(run.ID)), nil
	case "same group":
		return taskrt.Group([]taskrt.Call[int64]{half, half}, NextTotal().With(taskrt.ID(run.ID))), nil
	case "same later":
		return half.With(taskrt.ID(run.ID), taskrt.Delay(time.Hour)), nil
	case "same first":
		return taskrt.Then(half.With(taskrt.ID(run.ID)), NextHalf()), nil
	case "same member":
		return taskrt.Group([]taskrt.Call[int64]{half.With(taskrt.ID(run.ID)), half}, NextTotal()), nil
	case "same inner":
		inner := taskrt.Group([]taskrt.Call[int64]{taskrt.Then(half, NextHalf().With(taskrt.ID(run.ID)))}, NextTotal())
		return taskrt.Then(half, taskrt.After[int64](taskrt.Group([]taskrt.Call[int64]{half, inner}, NextTotal()))), nil
	case "long":
		for range 16 {
			half = taskrt.Then(half, NextHalf())
		}
		return half, nil
	case "same last":
		return taskrt.Then(half, NextHalf().With(taskrt.ID(run.ID))), nil
	case "slow":
		return taskrt.Then(half, NextHalf().With(taskrt.Delay(4*time.Hour))), nil
	case "twice":
		return CallGive("later", n), nil
	case "flaky":
		if run.Attempt == 1 {
			return half, errors.New("not at first")
		}
		return half.With(taskrt.Header("attempt", fmt.Sprint(run.Attempt))), nil
	case "down":
		if n > 0 {
			return CallGive("down", n-1), nil
		}
		return CallHalf(2), nil
	case "within":
		if n > 0 {
			return taskrt.Group([]taskrt.Call[int64]{taskrt.Then(CallHalf(2), taskrt.After[int64](CallGive("within", n-1)))}, NextTotal()), nil
		}
		return CallHalf(2), nil
	case "zero":
		return taskrt.Call[int64]{}, nil
	case "wrong":
		return taskrt.Then(half, NextHalf().With(taskrt.Delay(-1))), nil
	case "skips":
		return half.With(taskrt.SkipFailed()), nil
	}
	return taskrt.Call[int64]{}, fmt.Errorf("no such form of a call: %s", form)
}
