// Package script has the Lua scripts of the Redis broker, each with a Go file that makes its
// keys and arguments. docs/wire.md has their contracts.
package script

import (
	"crypto/sha1"
	"encoding/hex"

	"github.com/taskgen/taskgen/redis/internal/resp"
)

// Script is one transition's source and its digest, by which the server knows
// it once it has seen it.
type Script struct {
	Source, Digest string
	Repairable     bool   // it leaves each run where it can be found when it fails, and is to be executed again then
	Behind         []byte // a command that is sent with it, whose reply the reader reads too
}

// New makes a script of its text as it is sent.
func New(source string) Script {
	sum := sha1.Sum([]byte(source))
	return Script{Source: source, Digest: hex.EncodeToString(sum[:])}
}

// Encode returns what appends the command that executes the script.
func (s Script) Encode(name, what string, keys []string, args []any) func([]byte) []byte {
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
		return append(b, s.Behind...)
	}
}
