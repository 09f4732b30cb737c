package redis_test

import (
	"fmt"
	"os"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// failing has the n-th command of a script fail, once: of the first of its executions
// that has so many, or of a later one. The key "fail" has the script's name, n, and how
// many such executions go before.
const failing = `local redis = (function(server)
  local n, target, at = 0, server.call('GET', 'fail'), nil
  if target then
    local name, call, skip = string.match(target, '^(%S+) (%d+) (%d+)$')
    at = name == 'NAME' and tonumber(call)
    local function fails()
      n = n + 1
      if n == at and tonumber(skip) > 0 then
        server.call('SET', 'fail', name .. ' ' .. call .. ' ' .. (skip - 1))
        at = nil
      elseif n == at then
        server.call('DEL', 'fail')
        return true
      end
    end
    return setmetatable({
      call = function(...)
        if fails() then
          error({err = 'WRONGTYPE of command ' .. n .. ', ' .. (...)})
        end
        return server.call(...)
      end,
      pcall = function(...)
        if fails() then
          return {err = 'WRONGTYPE of command ' .. n .. ', ' .. (...)}
        end
        return server.pcall(...)
      end,
    }, {__index = server})
  end
  return server
end)(redis)`

// life is a queue's, with all that scripts do: each script fails at some command, and
// at the end each run that was accepted has ended.
type life struct {
	*testing.T
	b         *redis.Broker
	c         *goredis.Client
	q         string
	accepted  map[string]bool
	refused   map[string]bool
	ran       map[string]int
	retried   map[string]bool
	dropped   map[string]bool // by a cancel
	cancelled map[string]bool // while it waited
	errs      []error
}

// TestNoRunIsLostToAnErrorOfAScript has each command of each script fail in turn.
func TestNoRunIsLostToAnErrorOfAScript(t *testing.T) {
	t.Parallel()
	skips := []int{0}
	if os.Getenv("TASKGEN_SOAK") != "" {
		skips = []int{0, 2}
	}
	for _, script := range []string{
		"enqueue", "take", "finish", "giveback", "recordrunning", "renew", "expired", "record", "markbegun", "control", "cancelinflight",
		"heartbeat", "endwaiting", "group", "pending", "freeunique", "putschedule", "deleteschedule",
		"stage", "commit", "unstage", "endruns", "runnow", "cancelruns",
	} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			b, c := open(t, server, redis.Config{}), raw(t, server)
			b.Instrument(failing)
			failed := 0
			for _, skip := range skips {
				for n := 1; ; n += step(n) {
					fail := fmt.Sprintf("%s %d %d", script, n, skip)
					require.NoError(t, c.Set(t.Context(), "fail", fail, 0).Err())
					l := &life{
						T: t, b: b, c: c, q: fmt.Sprintf("q%d-%d", n, skip),
						accepted: map[string]bool{}, refused: map[string]bool{}, ran: map[string]int{}, retried: map[string]bool{}, dropped: map[string]bool{}, cancelled: map[string]bool{},
					}
					l.live()
					hit := c.Del(t.Context(), "fail").Val() == 0
					l.drain(fail)
					if !hit {
						break
					}
					failed++
				}
			}
			require.Positive(t, failed, "commands that failed")
		})
	}
}
