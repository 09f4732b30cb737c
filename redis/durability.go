package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/taskgen/taskgen/redis/internal/conn"
)

// Durability is how safe runs are on a server, on a cluster on the weakest of its masters.
type Durability struct {
	Server      string // its address
	Version     string // of Redis, as INFO has it
	Persistence Persistence
	Fsync       string // of the append-only file: always, everysec or no; "" if the user has no right to CONFIG GET
	Eviction    string // maxmemory-policy; anything but noeviction may lose accepted runs
	Replicas    int    // connected
	Failing     bool   // the last write of the append-only file, or the last snapshot, failed
}

// Persistence is what a server keeps on its disk.
type Persistence int8

// The values of Persistence, the least safe first.
const (
	NoPersistence      Persistence = iota // nothing: a restart loses all
	UnknownPersistence                    // no append-only file, and no right to CONFIG GET, so snapshots may be on or off
	Snapshots                             // a restart loses what is newer than the last one
	AppendOnly                            // a restart loses what Durability.Fsync allows
)

func (p Persistence) String() string {
	switch p {
	case Snapshots:
		return "snapshots only"
	case AppendOnly:
		return "append-only file"
	case UnknownPersistence:
		return "no append-only file, perhaps snapshots (CONFIG GET is not permitted)"
	}
	return "none"
}

// Durable reports whether the server writes all runs to its disk, and does not evict them.
func (d Durability) Durable() bool {
	return d.Persistence == AppendOnly && d.Eviction == noEviction && !d.Failing
}

// String returns one line for people, such as "redis 7.0.15: append-only file, appendfsync
// everysec, noeviction, 1 replica".
func (d Durability) String() string {
	parts := []string{d.Persistence.String()}
	if d.Persistence == AppendOnly {
		fsync := d.Fsync
		if fsync == "" {
			fsync = "unknown (CONFIG GET is not permitted)"
		}
		parts = append(parts, "appendfsync "+fsync)
	}
	if d.Failing {
		parts = append(parts, "the last write to disk failed")
	}
	parts = append(parts, d.Eviction)
	switch d.Replicas {
	case 0:
		parts = append(parts, "no replica")
	case 1:
		parts = append(parts, "1 replica")
	default:
		parts = append(parts, strconv.Itoa(d.Replicas)+" replicas")
	}
	return fmt.Sprintf("redis %s: %s", d.Version, strings.Join(parts, ", "))
}

// noEviction is the maxmemory-policy of a server that loses nothing to it.
const noEviction = "noeviction"

// weaker reports whether less is safe than with another.
func (d Durability) weaker(than Durability) bool {
	switch {
	case d.Durable() != than.Durable():
		return !d.Durable()
	case d.Persistence != than.Persistence:
		return d.Persistence < than.Persistence
	case d.Fsync != than.Fsync:
		order := map[string]int{"no": 0, "": 1, "everysec": 2, "always": 3}
		return order[d.Fsync] < order[than.Fsync]
	}
	return d.Replicas < than.Replicas
}

// Durability asks the server, or every master of a cluster, how safe runs are there. The
// answer can change at any time. The user needs the right to INFO. Without the right to
// CONFIG GET, Fsync and snapshots are unknown.
func (b *Broker) Durability(ctx context.Context) (Durability, error) {
	d, err := b.durability(ctx, true)
	if err != nil {
		return Durability{}, b.fail(ctx, "read durability", err)
	}
	return d, nil
}

// checkServer refuses a server that cannot keep what it accepts. It asks only INFO,
// which users without administration rights may.
func (b *Broker) checkServer(ctx context.Context, dial conn.Dialer) error {
	if err := b.clients.WhileLoading(ctx, func() error { return b.ping(ctx) }); err != nil {
		return dial.Diagnose(ctx, err, b.cfg.Timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, 3*b.cfg.Timeout)
	defer cancel()
	d, err := b.durability(ctx, false)
	if d.Version == "" && err != nil { // of a cluster one that answers is enough
		if conn.IsRefusal(err, "NOPERM") {
			return fmt.Errorf("check server: the user has no right to INFO, which tells the version and "+
				"whether runs are kept; grant it with ACL SETUSER … +info: %w", err)
		}
		return b.fail(ctx, "read server info", err)
	}
	return b.checkDurability(d)
}

// checkDurability returns why a server is not good enough, and what to do about it.
func (b *Broker) checkDurability(d Durability) error {
	at := ""
	if b.clients.Cluster {
		at = " " + d.Server
	}
	var major, minor int
	if _, err := fmt.Sscanf(d.Version, "%d.%d", &major, &minor); err != nil || major < 7 {
		return fmt.Errorf("check server%s: its version is %.32q, 7.0 or newer is needed", at, d.Version)
	}
	if b.cfg.Acknowledge == Fsync && major == 7 && minor < 2 {
		return fmt.Errorf("check server%s: its version is %.32q, Config.Acknowledge Fsync needs 7.2 or newer; "+
			"upgrade it, or ask for Replica", at, d.Version)
	}
	if d.Eviction != noEviction && !b.cfg.AllowEviction {
		return fmt.Errorf("check server%s: its maxmemory-policy is %.32q, which may evict accepted runs; "+
			"set it to noeviction, or Config.AllowEviction", at, d.Eviction)
	}
	if d.Persistence != AppendOnly && (b.cfg.RequireDurable || b.cfg.Acknowledge == Fsync) {
		why := "Config.RequireDurable"
		if b.cfg.Acknowledge == Fsync {
			why = "Config.Acknowledge Fsync"
		}
		return fmt.Errorf("check server%s: it has no append-only file, so a crash loses accepted runs, and %s is set; "+
			"CONFIG SET appendonly yes, and keep that by CONFIG REWRITE", at, why)
	}
	return nil
}

// durability returns that of the weakest server of those that answered, and the errors of
// the others.
func (b *Broker) durability(ctx context.Context, config bool) (Durability, error) {
	return conn.WithGrace(ctx, b.clients, func(ctx context.Context) (weakest Durability, err error) {
		var (
			mu   sync.Mutex
			errs []error
		)
		failed := b.clients.EachMaster(ctx, func(ctx context.Context, addr string, node conn.Commands) error {
			d, err := durabilityOf(ctx, node, config)
			d.Server = addr
			if err != nil && b.clients.Cluster {
				err = fmt.Errorf("ask %s: %w", addr, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
			} else if weakest.Version == "" || b.isWorse(d, weakest) {
				weakest = d
			}
			return nil
		})
		return weakest, errors.Join(append(errs, failed)...)
	})
}

// isWorse reports whether a server is refused or weaker, and another that was not refused
// is not.
func (b *Broker) isWorse(d, than Durability) bool {
	return b.checkDurability(than) == nil && (b.checkDurability(d) != nil || d.weaker(than))
}

// durabilityOf asks one server.
func durabilityOf(ctx context.Context, c conn.Commands, config bool) (Durability, error) {
	text, err := c.Info(ctx)
	if err != nil {
		return Durability{}, err
	}
	info := parseInfo(text)
	d := Durability{Version: info["redis_version"], Eviction: info["maxmemory_policy"], Persistence: UnknownPersistence}
	d.Replicas, _ = strconv.Atoi(info["connected_slaves"])
	if info["aof_enabled"] == "1" {
		d.Persistence = AppendOnly
		d.Failing = info["aof_last_write_status"] == "err"
	}
	if !config {
		return d, nil
	}
	if err := d.readConfig(ctx, c, info); err != nil {
		return Durability{}, err
	}
	return d, nil
}

// readConfig completes d by what only CONFIG GET tells, if the user has the right.
func (d *Durability) readConfig(ctx context.Context, c conn.Commands, info map[string]string) error {
	values, err := c.ConfigGet(ctx, "appendfsync")
	if conn.IsReply(err) {
		return nil // no right to it, or the provider has taken the command away
	}
	if err != nil {
		return err
	}
	if d.Persistence == AppendOnly {
		d.Fsync = values["appendfsync"]
		return nil
	}
	if values, err = c.ConfigGet(ctx, "save"); err != nil {
		return err
	}
	d.Persistence = NoPersistence
	if values["save"] != "" {
		d.Persistence = Snapshots
		d.Failing = info["rdb_last_bgsave_status"] == "err"
	}
	return nil
}

// parseInfo parses the reply of INFO.
func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[k] = v
		}
	}
	return info
}
