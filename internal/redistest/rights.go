package redistest

import (
	"slices"
	"strings"
	"testing"
)

// rights is all that a broker's user needs whose prefix begins with "app:": the commands
// that the broker sends, and those that its scripts call. A database other than 0 needs
// select too. docs/wire.md and docs/operating.md list them.
const rights = `
	resetchannels resetkeys ~app:* -@all
	+evalsha +eval
	+get +getrange +set +mset +multi +exec +setrange +del +exists +pexpire +pttl +persist +type +rename
	+rpush +lpush +lpop +lrange +llen +ltrim +lrem +lmove +bzmpop +blmpop
	+sadd +srem +smembers +scard +sscan +sismember
	+hset +hstrlen +hsetnx +hget +hmget +hdel +hgetall +hlen +hscan +hexists +hkeys +hincrby +hrandfield
	+zadd +zrem +zcard +zcount +zscore +zrange +zrangebyscore +zrangebylex +zlexcount +zremrangebyrank
	+setbit +getbit +bitcount +incrby +mget +scan +lset
	+time +ping +info
	+zscan +lpos +lindex`

// Rights returns what the broker's user needs.
func Rights() []string { return strings.Fields(rights) }

// ClusterRights returns what the user needs in addition on each node of a cluster.
func ClusterRights() []string { return []string{"+cluster|slots", "+asking"} }

// AuditRights returns those that an audit needs in addition.
func AuditRights() []string {
	return []string{"+scan", "+type", "+getrange", "+zscan", "+hscan", "+sismember", "+lrem", "+lpos", "+lindex"}
}

// RiskRights returns those that the command serve needs in addition, to log the server's
// risks.
func RiskRights() []string { return []string{"+config|get"} }

// AllowUser makes a user of a server, with the password "pass". The user has the rights that
// a broker needs, those in more, and no others.
func AllowUser(t testing.TB, server *Server, user string, more ...string) {
	t.Helper()
	command := slices.Concat([]string{"ACL", "SETUSER", user, "reset", "on", ">pass"}, strings.Fields(rights), more)
	if _, err := server.Do(command...); err != nil {
		t.Fatalf("make user %s: %v", user, err)
	}
}

// RequireNothingRefused checks that the servers have refused no user anything.
func RequireNothingRefused(t testing.TB, servers ...*Server) {
	t.Helper()
	for _, server := range servers {
		refused, err := server.Do("ACL", "LOG")
		if err != nil {
			t.Fatalf("read what %s refused: %v", server.Addr(), err)
		}
		if list, ok := refused.([]any); !ok || len(list) > 0 {
			t.Errorf("%s refused %v", server.Addr(), refused)
		}
	}
}
