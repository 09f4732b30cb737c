// Package tick queues the runs of schedules: of those that tasks have by their
// directives, and of dynamic ones, which the broker stores.
//
// Any number of schedulers may work on one broker. Each tick is claimed and queued
// in one step, so none of them leads. One loop a queue keeps a slow queue from
// delaying the ticks of others.
package tick
