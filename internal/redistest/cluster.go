package redistest

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The size of a cluster. A failover needs a majority of masters.
const (
	masters = 3
	slots   = 16384
)

// clusterTimeout is how long nodes may take to agree.
const clusterTimeout = 30 * time.Second

// Cluster is six nodes that end with the test: three masters with a replica each.
type Cluster struct {
	Nodes []*Server // as started, the first three as masters
	tb    testing.TB
}

// StartCluster starts a cluster with further arguments for each node. By default, a
// node counts as dead after five seconds.
func StartCluster(t testing.TB, args ...string) *Cluster {
	t.Helper()
	c := &Cluster{tb: t}
	for range 2 * masters {
		c.Nodes = append(c.Nodes, Start(t, append([]string{
			"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(freePort(t)),
			"--cluster-node-timeout", "5000", "--repl-diskless-sync-delay", "0",
		}, args...)...))
	}
	first := c.Nodes[0]
	for i, node := range c.Nodes {
		c.do(node, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		if i < masters {
			c.do(node, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(slots*i/masters), strconv.Itoa(slots*(i+1)/masters-1))
		}
		if i > 0 {
			_, port, _ := strings.Cut(node.Addr(), ":")
			bus := node.args[slices.Index(node.args, "--cluster-port")+1]
			c.do(first, "CLUSTER", "MEET", "127.0.0.1", port, bus)
		}
	}
	c.await("all nodes know each other", func() error {
		return c.every(func(_ *Server, view []member) error {
			if len(view) != len(c.Nodes) {
				return fmt.Errorf("it knows %d nodes", len(view))
			}
			return nil
		})
	})
	for i, node := range c.Nodes[masters:] {
		id, err := c.Nodes[i].ask("CLUSTER", "MYID")
		if err != nil {
			t.Fatalf("read id of node: %v", err)
		}
		c.do(node, "CLUSTER", "REPLICATE", id)
	}
	c.WaitStable()
	return c
}

// URL returns the addresses of all nodes as a broker's URL.
func (c *Cluster) URL() string {
	var more []string
	for _, node := range c.Nodes[1:] {
		more = append(more, "addr="+url.QueryEscape(node.Addr()))
	}
	return "redis+cluster://" + c.Nodes[0].Addr() + "?" + strings.Join(more, "&")
}

// Addrs returns the address of each node.
func (c *Cluster) Addrs() []string {
	list := make([]string, len(c.Nodes))
	for i, node := range c.Nodes {
		list[i] = node.Addr()
	}
	return list
}

// WaitStable waits until all running nodes agree that the cluster works. If all nodes
// run, each master also has a replica that is in sync.
func (c *Cluster) WaitStable() {
	c.tb.Helper()
	c.await("the cluster works", func() error {
		return c.every(func(node *Server, view []member) error {
			state, err := node.ask("CLUSTER", "INFO")
			if err != nil {
				return err
			}
			if got := fields(state)["cluster_state"]; got != "ok" {
				return fmt.Errorf("its state is %q", got)
			}
			replicas := 0
			for _, m := range view {
				if m.master != "" {
					replicas++
				}
			}
			if want := c.count() - masters; replicas < want {
				return fmt.Errorf("it knows %d replicas of %d", replicas, want)
			}
			return inStep(node)
		})
	})
}

// inStep returns nil for a master, and for a replica that is in sync with its master.
func inStep(server *Server) error {
	info, err := replication(server)
	if err != nil || info["role"] == "master" {
		return err
	}
	return follows(server)
}

// follows returns nil for a replica that follows its master.
func follows(server *Server) error {
	info, err := replication(server)
	if err == nil && info["master_link_status"] != "up" {
		err = fmt.Errorf("it is a %s, its link to a master is %q", info["role"], info["master_link_status"])
	}
	return err
}

func replication(server *Server) (map[string]string, error) {
	text, err := server.ask("INFO", "replication")
	return fields(text), err
}

// count returns how many nodes run.
func (c *Cluster) count() (n int) {
	for _, node := range c.Nodes {
		if node.running() {
			n++
		}
	}
	return n
}

// Slot returns the hash slot of a key.
func (c *Cluster) Slot(key string) int {
	c.tb.Helper()
	slot := -1
	c.await("a node names the slot of a key", func() error {
		return c.every(func(node *Server, _ []member) error {
			v, err := node.Do("CLUSTER", "KEYSLOT", key)
			if n, ok := v.(int64); ok {
				slot = int(n)
			}
			return err
		})
	})
	return slot
}

// Owner returns the node that serves a hash slot.
func (c *Cluster) Owner(slot int) *Server {
	c.tb.Helper()
	var owner *Server
	c.await(fmt.Sprintf("one node serves slot %d", slot), func() error {
		epoch := -1
		err := c.every(func(node *Server, view []member) error {
			for _, m := range view {
				if m.myself && m.master == "" && m.epoch > epoch && m.serves(slot) {
					owner, epoch = node, m.epoch
				}
			}
			return nil
		})
		if err == nil && epoch < 0 {
			return fmt.Errorf("no node serves it")
		}
		return err
	})
	return owner
}

// Replica returns a node that follows a master.
func (c *Cluster) Replica(master *Server) *Server {
	c.tb.Helper()
	var replica *Server
	c.await("a master has a replica", func() error {
		id, err := master.ask("CLUSTER", "MYID")
		if err != nil {
			return err
		}
		replica = nil
		err = c.every(func(node *Server, view []member) error {
			for _, m := range view {
				if m.myself && m.master == id {
					replica = node
				}
			}
			return nil
		})
		if err == nil && replica == nil {
			return fmt.Errorf("none follows %s", master.Addr())
		}
		return err
	})
	return replica
}

// Failover makes the replica of a hash slot's owner the master, with the owner's
// consent. It waits until the former owner follows the new one.
func (c *Cluster) Failover(slot int) {
	c.tb.Helper()
	next := c.Replica(c.Owner(slot))
	c.await("the replica is in step", func() error { return follows(next) })
	c.await("the replica has taken over", func() error {
		// The replica may give up and must be asked again, or have succeeded late.
		if _, err := next.Do("CLUSTER", "FAILOVER"); err != nil && !strings.Contains(err.Error(), "to a replica") {
			return err
		}
		return await(clusterTimeout/4, func() error {
			if c.Owner(slot) != next {
				return fmt.Errorf("%s is not the owner", next.Addr())
			}
			return nil
		})
	})
	c.Replica(next)
}

// MoveSlot moves a hash slot with its keys to another master, as resharding does. It
// calls between, if not nil, when about half of the keys have moved.
func (c *Cluster) MoveSlot(slot int, to *Server, between func()) {
	c.tb.Helper()
	from, number := c.Owner(slot), strconv.Itoa(slot)
	ids := map[*Server]string{}
	for _, node := range []*Server{from, to} {
		id, err := node.ask("CLUSTER", "MYID")
		if err != nil {
			c.tb.Fatalf("move slot: %v", err)
		}
		ids[node] = id
	}
	c.do(to, "CLUSTER", "SETSLOT", number, "IMPORTING", ids[from])
	c.do(from, "CLUSTER", "SETSLOT", number, "MIGRATING", ids[to])
	total, err := from.Do("CLUSTER", "COUNTKEYSINSLOT", number)
	if err != nil {
		c.tb.Fatalf("count keys of slot: %v", err)
	}
	half, _ := total.(int64)
	c.moveKeys(number, from, to, int(half+1)/2)
	if between != nil {
		between()
	}
	for c.moveKeys(number, from, to, 100) > 0 {
	}
	// The new owner first, so that the slot always has an owner.
	c.do(to, "CLUSTER", "SETSLOT", number, "NODE", ids[to])
	c.do(from, "CLUSTER", "SETSLOT", number, "NODE", ids[to])
	c.await("all nodes know the new owner", func() error {
		return c.every(func(_ *Server, view []member) error {
			for _, m := range view {
				if m.id == ids[to] && m.serves(slot) {
					return nil
				}
			}
			return fmt.Errorf("it does not know it")
		})
	})
}

// moveKeys moves up to n keys of a hash slot and returns how many there were.
func (c *Cluster) moveKeys(slot string, from, to *Server, n int) int {
	c.tb.Helper()
	v, err := from.Do("CLUSTER", "GETKEYSINSLOT", slot, strconv.Itoa(n))
	keys, _ := v.([]any)
	if err != nil {
		c.tb.Fatalf("read keys of slot: %v", err)
	}
	if len(keys) == 0 {
		return 0
	}
	_, port, _ := strings.Cut(to.Addr(), ":")
	command := []string{"MIGRATE", "127.0.0.1", port, "", "0", "5000", "KEYS"}
	for _, key := range keys {
		command = append(command, fmt.Sprint(key))
	}
	c.do(from, command...)
	return len(keys)
}

func (c *Cluster) do(node *Server, args ...string) {
	c.tb.Helper()
	if _, err := node.Do(args...); err != nil {
		c.tb.Fatalf("do %.200q on %s: %v", args, node.Addr(), err)
	}
}

func (c *Cluster) await(what string, ask func() error) {
	c.tb.Helper()
	if err := await(clusterTimeout, ask); err != nil {
		c.tb.Fatalf("wait until %s: %v", what, err)
	}
}

// every calls f for each running node with its view of the cluster, until f returns
// an error.
func (c *Cluster) every(f func(node *Server, view []member) error) error {
	for _, node := range c.Nodes {
		if !node.running() {
			continue
		}
		text, err := node.ask("CLUSTER", "NODES")
		if err != nil {
			return err
		}
		view, err := parseView(text)
		if err == nil {
			err = f(node, view)
		}
		if err != nil {
			return fmt.Errorf("node %s: %w", node.Addr(), err)
		}
	}
	return nil
}

// member is a node as seen by a node.
type member struct {
	id     string
	myself bool
	master string // its master; "" for a master
	epoch  int
	slots  [][2]int // first and last of each range
}

func (m member) serves(slot int) bool {
	return slices.ContainsFunc(m.slots, func(r [2]int) bool { return r[0] <= slot && slot <= r[1] })
}

// parseView parses the reply to CLUSTER NODES, without nodes in handshake.
func parseView(text string) ([]member, error) {
	var view []member
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 8 {
			return nil, fmt.Errorf("read member %q: it has %d fields", line, len(f))
		}
		if strings.Contains(f[2], "handshake") {
			continue
		}
		epoch, err := strconv.Atoi(f[6])
		if err != nil {
			return nil, fmt.Errorf("read member %q: %w", line, err)
		}
		m := member{id: f[0], myself: strings.Contains(f[2], "myself"), master: strings.Trim(f[3], "-"), epoch: epoch}
		for _, word := range f[8:] {
			if strings.HasPrefix(word, "[") {
				continue // a slot that is being moved
			}
			first, last, ranged := strings.Cut(word, "-")
			if !ranged {
				last = first
			}
			a, err := strconv.Atoi(first)
			if err != nil {
				return nil, fmt.Errorf("read member %q: %w", line, err)
			}
			b, err := strconv.Atoi(last)
			if err != nil {
				return nil, fmt.Errorf("read member %q: %w", line, err)
			}
			m.slots = append(m.slots, [2]int{a, b})
		}
		view = append(view, m)
	}
	return view, nil
}
