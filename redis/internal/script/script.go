package script

import (
	"crypto/sha1"
	"encoding/hex"

	"github.com/taskgen/taskgen/redis/internal/resp"
)

// Script is the source of a script, and the digest by which the server knows a script that
// it has executed before.
type Script struct {
	Source, Digest string
	Repairable     bool   // if it fails because of the value of a key, it is executed again after a repair
	Behind         []byte // a command that is sent with it, whose reply the reader reads too
}

// New returns a script of its source.
func New(source string) Script {
	sum := sha1.Sum([]byte(source))
	return Script{Source: source, Digest: hex.EncodeToString(sum[:])}
}

// Encode returns a function that appends the command to execute the script: evalsha with its
// digest, or eval with its source.
func (s Script) Encode(command, source string, keys []string, args []any) func([]byte) []byte {
	return func(b []byte) []byte {
		b = resp.AppendArray(b, 3+len(keys)+len(args))
		b = resp.AppendBulk(resp.AppendBulk(b, command), source)
		b = resp.AppendNumber(b, int64(len(keys)))
		for _, key := range keys {
			b = resp.AppendBulk(b, key)
		}
		for _, arg := range args {
			b = resp.AppendArg(b, arg)
		}
		return append(b, s.Behind...)
	}
}
