package runtime

import (
	"math"
	"math/rand/v2"
	"time"
)

// maxDelay keeps due times inside what clocks and brokers can represent.
const maxDelay = 100 * 365 * 24 * time.Hour

// RetryPolicy is how often a task is attempted and how long the back-off between attempts
// is. The wait after the nth attempt is drawn evenly from zero to Min × Factor^(n-1), at
// most Max ("full jitter",
// https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
type RetryPolicy struct {
	Attempts int           // the first one included. Defaults to 4
	Min      time.Duration // Defaults to 1s
	Max      time.Duration // Defaults to 10m
	Factor   float64       // Defaults to 2
}

func (p RetryPolicy) withDefaults() RetryPolicy {
	if p.Attempts == 0 {
		p.Attempts = 4
	}
	if p.Min == 0 {
		p.Min = time.Second
	}
	if p.Max == 0 {
		p.Max = 10 * time.Minute
	}
	if p.Factor == 0 {
		p.Factor = 2
	}
	return p
}

// ceiling is the longest wait after the nth attempt, from 1.
func (p RetryPolicy) ceiling(n int) time.Duration {
	d := float64(p.Min) * math.Pow(p.Factor, float64(n-1))
	if d >= float64(p.Max) {
		return p.Max
	}
	return time.Duration(d)
}

// wait draws the wait after the nth attempt. It is never zero, so that a retry
// does not overtake what waits already.
func (p RetryPolicy) wait(n int) time.Duration {
	return 1 + rand.N(max(p.ceiling(n), time.Millisecond))
}

// spread draws a wait that is no shorter than d, and longer by at most half of it
// or a minute.
func spread(d time.Duration) time.Duration {
	if d >= maxDelay {
		return d
	}
	return d + rand.N(min(d/2, time.Minute)+1)
}
