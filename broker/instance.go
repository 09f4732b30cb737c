package broker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Instances is a broker that knows which consumers and schedulers are up.
type Instances interface {
	// Announce stores what [Instance.Bounded] returns of an instance for [InstanceKept], in
	// place of what was stored of it before. It returns an error if Bounded does. The
	// runtime repeats it each third of that time.
	Announce(ctx context.Context, i *Instance) error

	// Withdraw removes an instance that has stopped.
	Withdraw(ctx context.Context, id string) error

	// Instances returns those that are stored, sorted by host, process id and id. It
	// leaves out one that cannot be read.
	Instances(ctx context.Context) ([]*Instance, error)
}

// InstanceKept is how long an instance is listed after it announced itself last.
const InstanceKept = 30 * time.Second

// MaxInstanceQueues is how many queues of an instance are stored. Others are left out.
const MaxInstanceQueues = 1000

// Role is what an instance does.
type Role string

// The roles.
const (
	RoleConsumer  Role = "consumer"
	RoleScheduler Role = "scheduler"
)

// Instance is a consumer or a scheduler that is up, as it describes itself.
type Instance struct {
	ID       string // unique; at most MaxID bytes of printable ASCII
	Role     Role
	Host     string // name of its machine, or container
	PID      int
	Version  string         // of its program; empty: unknown
	Started  time.Time      // by its own clock
	Seen     time.Time      // when it announced itself last, by the broker's clock; Announce sets it
	Stopping bool           // it takes no more runs
	Queues   map[string]int // of a consumer: those that it takes from, with their weights; of a scheduler: those of its schedules, with 1
	More     int            // how many queues more it has
	Address  string         // where its process serves metrics, such as 10.0.0.7:8080; at most MaxHost bytes; empty: nowhere
	Scraped  time.Time      // since when its process is asked for its metrics regularly, by its own clock; zero: it is not

	// Of a consumer.
	Session  string   // as in [RunInfo]; empty: it has none at present
	Slots    [2]Slots // by Kind
	Children int      // child processes
}

// Slots are the slots of one kind.
type Slots struct {
	Total, Busy int
}

// Serves reports whether the instance serves a queue. If not all of its queues are stored, it may
// serve any.
func (i *Instance) Serves(queue string) bool {
	_, named := i.Queues[queue]
	return named || i.More > 0
}

// Bounded returns a copy of the instance as a broker stores it. It cuts texts that are too long,
// and leaves out queues beyond [MaxInstanceQueues] and names that no queue can have, which More
// counts then. It returns an error if the id cannot be stored.
func (i *Instance) Bounded() (*Instance, error) {
	if err := checkName("instance's id", i.ID, MaxID, false); err != nil {
		return nil, err
	}
	if i.Role != RoleConsumer && i.Role != RoleScheduler {
		return nil, fmt.Errorf("the role %.32q is neither %s nor %s", string(i.Role), RoleConsumer, RoleScheduler)
	}
	c := *i
	c.Host, c.Version, c.Address, c.Session = cutText(i.Host, MaxHost), cutText(i.Version, MaxHost), cutText(i.Address, MaxHost), cutText(i.Session, MaxID)
	if checkTime("started", c.Started) != nil {
		c.Started = time.Time{}
	}
	if checkTime("scraped", c.Scraped) != nil {
		c.Scraped = time.Time{}
	}
	c.Started, c.Scraped, c.Seen = c.Started.Round(0).UTC(), c.Scraped.Round(0).UTC(), c.Seen.Round(0).UTC()
	c.PID, c.More, c.Children = max(c.PID, 0), max(c.More, 0), max(c.Children, 0)
	for kind := range c.Slots {
		c.Slots[kind] = Slots{Total: max(c.Slots[kind].Total, 0), Busy: max(c.Slots[kind].Busy, 0)}
	}
	c.Queues = make(map[string]int, min(len(i.Queues), MaxInstanceQueues))
	for _, name := range slices.Sorted(maps.Keys(i.Queues)) {
		if len(c.Queues) == MaxInstanceQueues || checkName("queue name", name, MaxName, false) != nil {
			c.More++
			continue
		}
		c.Queues[name] = i.Queues[name]
	}
	return &c, nil
}
