// Package resp reads and writes RESP2, the protocol of Redis, as far as the broker's
// commands need it: https://redis.io/docs/latest/develop/reference/protocol-spec/
package resp

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// AppendBulk appends a bulk string.
func AppendBulk[T string | []byte](b []byte, s T) []byte {
	b = append(b, '$')
	b = strconv.AppendInt(b, int64(len(s)), 10)
	b = append(b, '\r', '\n')
	b = append(b, s...)
	return append(b, '\r', '\n')
}

// AppendArray begins an array of n bulk strings. A command is one.
func AppendArray(b []byte, n int) []byte {
	b = append(b, '*')
	b = strconv.AppendInt(b, int64(n), 10)
	return append(b, '\r', '\n')
}

// AppendArg appends an argument as go-redis would.
func AppendArg(b []byte, arg any) []byte {
	switch v := arg.(type) {
	case string:
		return AppendBulk(b, v)
	case *string:
		return AppendBulk(b, *v)
	case []byte:
		return AppendBulk(b, v)
	case int:
		return AppendNumber(b, int64(v))
	case int64:
		return AppendNumber(b, v)
	}
	return AppendBulk(b, fmt.Sprint(arg))
}

// AppendNumber appends a number as a bulk string.
func AppendNumber(b []byte, n int64) []byte {
	var digits [20]byte
	return AppendBulk(b, strconv.AppendInt(digits[:0], n, 10))
}

// Bulks returns n bulk strings as arguments for go-redis.
func Bulks(b []byte, n int) ([]any, error) {
	args := make([]any, 0, n)
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		if end < 3 {
			return nil, ErrProtocol
		}
		size, err := strconv.Atoi(string(b[1 : end-1]))
		if err != nil || size < 0 || len(b) < end+1+size+2 {
			return nil, ErrProtocol
		}
		args = append(args, b[end+1:end+1+size])
		b = b[end+1+size+2:]
	}
	return args, nil
}

// Error is an error that the server replied.
type Error string

func (e Error) Error() string { return string(e) }

// RedisError makes it an Error of go-redis.
func (Error) RedisError() {}

// Limits of a reply, so that bytes that are no reply cannot claim the memory.
const (
	maxDepth   = 4
	maxArray   = 1 << 20
	maxBulk    = 512 << 20 // the server's own limit
	bulkAtOnce = 1 << 20
)

// ErrProtocol is the error of a reply that is not RESP2.
var ErrProtocol = errors.New("the server's reply is not one of the Redis protocol")

// ReadReply reads one reply: int64, string, []any, nil, or an Error as a value. After
// an error the connection is of no use.
func ReadReply(in *bufio.Reader, depth int) (any, error) {
	kind, err := in.ReadByte()
	if err != nil {
		return nil, err
	}
	switch kind {
	case '+', '-':
		text, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if len(text) < 2 {
			return nil, ErrProtocol
		}
		text = text[:len(text)-2]
		if kind == '-' {
			return Error(text), nil
		}
		return text, nil
	case ':', '$', '*':
		n, err := readNumber(in)
		if err != nil {
			return nil, err
		}
		switch {
		case kind == ':':
			return n, nil
		case n == -1:
			return nil, nil
		case kind == '$':
			return readBulk(in, n)
		}
		return readArray(in, n, depth)
	}
	return nil, ErrProtocol
}

func readNumber(in *bufio.Reader) (int64, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 3 || len(line) > 22 {
		return 0, ErrProtocol
	}
	digits, negative := line[:len(line)-2], false
	if digits[0] == '-' {
		digits, negative = digits[1:], true
	}
	var n int64
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, ErrProtocol
		}
		n = n*10 + int64(c-'0')
	}
	if negative {
		n = -n
	}
	return n, nil
}

// ReadSize reads the first line of a reply of a kind: its number, or the size of what
// follows.
func ReadSize(in *bufio.Reader, kind byte) (int64, error) {
	got, err := in.ReadByte()
	if err != nil {
		return 0, err
	}
	if got != kind {
		return 0, ErrProtocol
	}
	return readNumber(in)
}

func readBulk(in *bufio.Reader, n int64) (any, error) {
	b, err := AppendRead(nil, in, n)
	if err != nil {
		return nil, err
	}
	return string(b), nil
}

// AppendRead appends a bulk string of n bytes, and reads its end.
func AppendRead(b []byte, in *bufio.Reader, n int64) ([]byte, error) {
	if n < 0 || n > maxBulk {
		return nil, ErrProtocol
	}
	for n > 0 {
		part := int(min(n, bulkAtOnce))
		b = slices.Grow(b, part)
		m, err := io.ReadFull(in, b[len(b):len(b)+part])
		if err != nil {
			return nil, err
		}
		b = b[:len(b)+m]
		n -= int64(m)
	}
	_, err := in.Discard(2)
	return b, err
}

func readArray(in *bufio.Reader, n int64, depth int) (any, error) {
	if n < 0 || n > maxArray || depth == maxDepth {
		return nil, ErrProtocol
	}
	list := make([]any, 0, min(n, 1024))
	for range n {
		v, err := ReadReply(in, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}
