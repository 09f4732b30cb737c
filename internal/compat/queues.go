package compat

import (
	"fmt"
	"slices"
	"strings"
)

// queues reports the queues that the old tasks had, or took from, and that no present task
// takes from. Beside are tasks of the present version that are not compared.
func (v *versions) queues(beside []*Task) []Change {
	taken := map[string]bool{}
	for _, t := range slices.Concat(v.present, beside) {
		taken[t.Queue] = true
		for _, queue := range t.From {
			taken[queue] = true
		}
	}
	var order []string
	left := map[string][]*Task{} // old tasks by queue
	own := map[string]bool{}     // queues on which the old version queued
	for _, o := range v.old {
		if v.reader(o.Name, o.Dir) == nil {
			continue // it is gone, and reported as that
		}
		for _, queue := range append([]string{o.Queue}, o.From...) {
			if taken[queue] {
				continue
			}
			if left[queue] == nil {
				order = append(order, queue)
			}
			left[queue] = append(left[queue], o)
			own[queue] = own[queue] || queue == o.Queue
		}
	}
	var changes []Change
	for _, queue := range order {
		changes = append(changes, v.left(queue, left[queue], own[queue]))
	}
	return changes
}

// left reports a queue that is left without a task.
func (v *versions) left(queue string, tasks []*Task, own bool) Change {
	if own { // name the tasks that queued there, not those that only took from there
		tasks = slices.DeleteFunc(tasks, func(t *Task) bool { return t.Queue != queue })
	}
	first := tasks[0]
	present := v.reader(first.Name, first.Dir)
	c := Change{New: present, Old: first, Note: !own}
	written := "runs that " + v.version + " queued there"
	if !own {
		written = "runs that versions before " + v.version + " queued there"
	}
	rest := make([]string, 0, len(tasks))
	for _, t := range tasks[1:] {
		rest = append(rest, t.Name)
	}
	others := ""
	if len(rest) > 3 {
		others = fmt.Sprintf(" (and %d others)", len(rest))
	} else if len(rest) > 0 {
		others = " (and " + strings.Join(rest, ", ") + ")"
	}
	from := strings.Join(append([]string{queue}, present.From...), ",")
	c.Message = fmt.Sprintf("task %s%s: no task takes from queue %s any more: %s, and the ticks of schedules made at run time there, would be left to nobody; write //task:queue %s from=%s until it is empty, or name the queue in the consumers' --queues",
		present.Name, others, queue, written, present.Queue, from)
	return c
}
