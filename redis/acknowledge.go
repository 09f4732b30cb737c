package redis

import (
	"bufio"
	"context"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/resp"
)

// Acknowledge says how safe a run has to be before its queueing returns nil.
type Acknowledge int8

// How safe a run can be asked to be. Each costs the caller what it waits for;
// callers that wait at the same time wait together. A user with few rights needs
// that to WAIT or WAITAOF.
const (
	// Memory: the server has it. Its persistence decides what a crash loses,
	// and a failover loses what was not replicated yet.
	Memory Acknowledge = iota
	// Replica: Config.Replicas replicas have it in memory too (WAIT).
	Replica
	// Fsync: it is in the append-only file of the server, written through to
	// its disk, and in those of Config.Replicas replicas (WAITAOF). Redis 7.2
	// or newer is needed, with appendonly yes.
	Fsync
)

func (a Acknowledge) String() string {
	switch a {
	case Memory:
		return "memory"
	case Replica:
		return "replica"
	case Fsync:
		return "fsync"
	}
	return fmt.Sprintf("Acknowledge(%d)", int8(a))
}

func parseAcknowledge(s string) (Acknowledge, error) {
	for _, a := range []Acknowledge{Memory, Replica, Fsync} {
		if s == a.String() {
			return a, nil
		}
	}
	return 0, fmt.Errorf("option acknowledge: %.32q is not memory, replica or fsync", s)
}

// withAcknowledge checks and completes what is asked for.
func (c Config) withAcknowledge() (Config, error) {
	switch {
	case c.Acknowledge < Memory || c.Acknowledge > Fsync:
		return c, fmt.Errorf("config Acknowledge: %d is not Memory, Replica or Fsync", c.Acknowledge)
	case c.Replicas < 0:
		return c, fmt.Errorf("config Replicas: %d is negative", c.Replicas)
	case c.Replicas > 0 && c.Acknowledge == Memory:
		return c, fmt.Errorf("config Replicas: %d are of no use without Acknowledge", c.Replicas)
	case c.Replicas == 0 && c.Acknowledge == Replica:
		c.Replicas = 1
	}
	return c, nil
}

// confirmation is the command that follows an enqueue on its connection, and
// what was replied to it. The server replies when what was written up to then
// is as safe as asked, or time is up.
type confirmation struct {
	b    *Broker
	wait time.Duration
	err  error // nil: it is as safe as asked
	// mark is a key to write to before, "" for none: an enqueue that is repeated
	// may find itself done already, and the server waits only for what this
	// connection has written.
	mark string
}

// confirming returns nil where nothing has to be confirmed.
func (b *Broker) confirming() *confirmation {
	if b.cfg.Acknowledge == Memory {
		return nil
	}
	return &confirmation{b: b}
}

// append appends the command. Its time ends before the caller's does, and
// before that of the connection.
func (c *confirmation) append(ctx context.Context, out []byte) []byte {
	c.wait, c.err = c.b.cfg.Timeout*3/4, nil
	if at, ok := ctx.Deadline(); ok {
		c.wait = min(c.wait, time.Until(at))
	}
	ms := max(c.wait.Milliseconds(), 1) // 0 would be forever
	if c.mark != "" {
		out = resp.AppendBulk(resp.AppendBulk(resp.AppendArray(out, 5), "SET"), c.mark)
		out = resp.AppendNumber(resp.AppendBulk(resp.AppendBulk(out, ""), "PX"), 1000)
	}
	if c.b.cfg.Acknowledge == Fsync {
		out = resp.AppendBulk(resp.AppendArray(out, 4), "WAITAOF")
		out = resp.AppendNumber(out, 1)
	} else {
		out = resp.AppendBulk(resp.AppendArray(out, 3), "WAIT")
	}
	return resp.AppendNumber(resp.AppendNumber(out, int64(c.b.cfg.Replicas)), ms)
}

// read reads the reply. An error means that the connection is of no more use.
func (c *confirmation) read(in *bufio.Reader) error {
	if c.mark != "" {
		if _, err := resp.ReadReply(in, 0); err != nil {
			return err
		}
	}
	v, err := resp.ReadReply(in, 0)
	if err != nil {
		return err
	}
	local, replicas := int64(1), int64(0)
	switch v := v.(type) {
	case resp.Error:
		c.err = fmt.Errorf("%w: %w", broker.ErrNotReplicated, v)
		return nil
	case int64:
		replicas = v
	case []any:
		if len(v) != 2 {
			return resp.ErrProtocol
		}
		local, _ = v[0].(int64)
		replicas, _ = v[1].(int64)
	}
	switch {
	case local < 1:
		c.err = fmt.Errorf("%w: the server did not write it to its disk within %v", broker.ErrNotReplicated, c.wait)
	case replicas < int64(c.b.cfg.Replicas):
		c.err = fmt.Errorf("%w: %d of %d replicas confirmed it within %v",
			broker.ErrNotReplicated, replicas, c.b.cfg.Replicas, c.wait)
	}
	return nil
}

// lost notes that the enqueue was replied to, but not the confirmation.
func (c *confirmation) lost(why error) {
	c.err = fmt.Errorf("%w: no confirmation came: %w", broker.ErrNotReplicated, why)
}

// result is nil, or an error that wraps [broker.ErrNotReplicated].
func (c *confirmation) result() error {
	if c == nil {
		return nil
	}
	return c.err
}
