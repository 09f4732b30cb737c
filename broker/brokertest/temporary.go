package brokertest

import (
	"fmt"
	"os"
)

// skipBehind skips a check of the Redis broker, which is still to learn what that checks. With
// TASKGEN_ALL_CHECKS set it is checked as any other. To be removed, with its uses.
func (f *fixture) skipBehind() {
	if fmt.Sprintf("%T", f.b) == "*redis.Broker" && os.Getenv("TASKGEN_ALL_CHECKS") == "" {
		f.Skip("the Redis broker is still to learn it")
	}
}
