package redis

import (
	"crypto/sha1"
	"encoding/hex"

	"github.com/taskgen/taskgen/redis/internal/resp"
)

// script is one transition's source and its digest, by which the server knows
// it once it has seen it.
type script struct {
	source, digest string
	mendable       bool   // it leaves each run where it can be found when it fails, and is to be executed again then
	behind         []byte // a command that is sent with it, whose reply the reader reads too
}

// newScript makes a script of its text as it is sent.
func newScript(source string) script {
	sum := sha1.Sum([]byte(source))
	return script{source: source, digest: hex.EncodeToString(sum[:])}
}

// encode returns what appends the command that executes the script.
func (s script) encode(name, what string, keys []string, args []any) func([]byte) []byte {
	return func(b []byte) []byte {
		b = resp.AppendArray(b, 3+len(keys)+len(args))
		b = resp.AppendBulk(resp.AppendBulk(b, name), what)
		b = resp.AppendNumber(b, int64(len(keys)))
		for _, key := range keys {
			b = resp.AppendBulk(b, key)
		}
		for _, arg := range args {
			b = resp.AppendArg(b, arg)
		}
		return append(b, s.behind...)
	}
}
