package broker

import (
	"os"
	"strconv"
	"strings"
	"sync"
)

// ThisHost returns what [Attempt] and [Record] have as Host for this process: the host name,
// a colon and the process id. It cuts a long host name, and leaves out an unknown one.
func ThisHost() string { return thisHost() }

var thisHost = sync.OnceValue(func() string {
	name, _ := os.Hostname()
	process := ":" + strconv.Itoa(os.Getpid())
	return strings.ToValidUTF8(name[:min(len(name), MaxHost-len(process))], "?") + process
})
