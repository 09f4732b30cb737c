package redis

import (
	"github.com/taskgen/taskgen/internal/urlaccess"
)

// ReachedBy reports whether a text is a Redis URL that gives access to the broker: with
// its password, or, if it has none, to its server and database. Options such as ?prefix=
// do not count. A consumer keeps such URLs out of its child processes.
func (b *Broker) ReachedBy(text string) bool { return urlaccess.Shares(text, b.url) }
