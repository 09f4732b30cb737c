package conn

import (
	"bufio"
	"context"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/resp"
)

// Confirmation is the command that follows an enqueue on its connection, WAIT or
// WAITAOF, and its result. The server replies once all earlier writes of the connection
// are as safe as asked, or after a time.
type Confirmation struct {
	cfg  Config
	wait time.Duration
	err  error // nil: as safe as asked
	// Mark is a key to write first, if not "". A repeated enqueue may write nothing,
	// and the server waits only for writes of this connection.
	Mark string
}

// NewConfirmation returns nil if nothing has to be confirmed.
func (c *Clients) NewConfirmation() *Confirmation {
	if !c.cfg.Confirm {
		return nil
	}
	return &Confirmation{cfg: c.cfg}
}

// append appends the command. The server's wait ends before the caller's context and
// the connection's deadline do.
func (c *Confirmation) append(ctx context.Context, out []byte) []byte {
	c.wait, c.err = c.cfg.Timeout*3/4, nil
	if at, ok := ctx.Deadline(); ok {
		c.wait = min(c.wait, time.Until(at))
	}
	ms := max(c.wait.Milliseconds(), 1) // 0 would be forever
	if c.Mark != "" {
		out = resp.AppendBulk(resp.AppendBulk(resp.AppendArray(out, 5), "SET"), c.Mark)
		out = resp.AppendNumber(resp.AppendBulk(resp.AppendBulk(out, ""), "PX"), 1000)
	}
	if c.cfg.Fsync {
		out = resp.AppendBulk(resp.AppendArray(out, 4), "WAITAOF")
		out = resp.AppendNumber(out, 1)
	} else {
		out = resp.AppendBulk(resp.AppendArray(out, 3), "WAIT")
	}
	return resp.AppendNumber(resp.AppendNumber(out, int64(c.cfg.Replicas)), ms)
}

// read reads the reply. After an error the connection is of no use.
func (c *Confirmation) read(in *bufio.Reader) error {
	if c.Mark != "" {
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
	case replicas < int64(c.cfg.Replicas):
		c.err = fmt.Errorf("%w: %d of %d replicas confirmed it within %v",
			broker.ErrNotReplicated, replicas, c.cfg.Replicas, c.wait)
	}
	return nil
}

// lost records that the enqueue has a reply, and the confirmation has none.
func (c *Confirmation) lost(why error) {
	c.err = fmt.Errorf("%w: no confirmation came: %w", broker.ErrNotReplicated, why)
}

// Result returns nil, or an error that wraps [broker.ErrNotReplicated].
func (c *Confirmation) Result() error {
	if c == nil {
		return nil
	}
	return c.err
}
