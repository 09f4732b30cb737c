// Package sqlite is a broker in one SQLite file, which several processes of one machine
// share. A run that was queued survives the end of the process, also by kill -9.
//
// It delivers runs at least once, and queues each tick once: it has the parts Broker, Leaser,
// Ticks and Clock of the contract of package broker. It has no records, policies, groups or
// schedules made at run time yet.
//
// One goroutine of each process writes. A transaction of it commits everything that
// concurrent calls brought, so that there are fewer syncs of the disk than calls.
package sqlite
