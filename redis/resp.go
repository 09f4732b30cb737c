package redis

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// The serialization protocol of Redis, version 2, as far as the broker's
// commands need it: https://redis.io/docs/latest/develop/reference/protocol-spec/

// appendBulk appends a bulk string.
func appendBulk[T string | []byte](b []byte, s T) []byte {
	b = append(b, '$')
	b = strconv.AppendInt(b, int64(len(s)), 10)
	b = append(b, '\r', '\n')
	b = append(b, s...)
	return append(b, '\r', '\n')
}

// appendArray opens an array of n bulk strings, which a command is.
func appendArray(b []byte, n int) []byte {
	b = append(b, '*')
	b = strconv.AppendInt(b, int64(n), 10)
	return append(b, '\r', '\n')
}

// appendArg appends an argument as the client library would.
func appendArg(b []byte, arg any) []byte {
	switch v := arg.(type) {
	case string:
		return appendBulk(b, v)
	case *string:
		return appendBulk(b, *v)
	case []byte:
		return appendBulk(b, v)
	case int:
		return appendNumber(b, int64(v))
	case int64:
		return appendNumber(b, v)
	}
	return appendBulk(b, fmt.Sprint(arg))
}

func appendNumber(b []byte, n int64) []byte {
	var digits [20]byte
	return appendBulk(b, strconv.AppendInt(digits[:0], n, 10))
}

// bulks returns n bulk strings as arguments for the client library.
func bulks(b []byte, n int) ([]any, error) {
	args := make([]any, 0, n)
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		if end < 3 {
			return nil, errProtocol
		}
		size, err := strconv.Atoi(string(b[1 : end-1]))
		if err != nil || size < 0 || len(b) < end+1+size+2 {
			return nil, errProtocol
		}
		args = append(args, b[end+1:end+1+size])
		b = b[end+1+size+2:]
	}
	return args, nil
}

// serverError is an error that the server replied.
type serverError string

func (e serverError) Error() string { return string(e) }

// RedisError makes it a [goredis.Error].
func (serverError) RedisError() {}

// Limits of a reply, so that a stream that is none cannot claim the memory.
const (
	maxDepth    = 4
	maxElements = 1 << 20
	maxBulk     = 512 << 20 // the server's own limit
	bulkAtOnce  = 1 << 20
)

var errProtocol = errors.New("the server's reply is not one of the Redis protocol")

// readReply reads one reply: int64, string, []any, nil, or a serverError as a
// value. An error means that the connection is of no more use.
func readReply(in *bufio.Reader, depth int) (any, error) {
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
			return nil, errProtocol
		}
		text = text[:len(text)-2]
		if kind == '-' {
			return serverError(text), nil
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
	return nil, errProtocol
}

func readNumber(in *bufio.Reader) (int64, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 3 || len(line) > 22 {
		return 0, errProtocol
	}
	digits, negative := line[:len(line)-2], false
	if digits[0] == '-' {
		digits, negative = digits[1:], true
	}
	var n int64
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, errProtocol
		}
		n = n*10 + int64(c-'0')
	}
	if negative {
		n = -n
	}
	return n, nil
}

// readSize reads the line of a reply that has to be of a kind: a number, or the
// size of what follows.
func readSize(in *bufio.Reader, kind byte) (int64, error) {
	got, err := in.ReadByte()
	if err != nil {
		return 0, err
	}
	if got != kind {
		return 0, errProtocol
	}
	return readNumber(in)
}

func readBulk(in *bufio.Reader, n int64) (any, error) {
	b, err := appendRead(nil, in, n)
	if err != nil {
		return nil, err
	}
	return string(b), nil
}

// appendRead appends a bulk string of n bytes, whose end it reads too.
func appendRead(b []byte, in *bufio.Reader, n int64) ([]byte, error) {
	if n < 0 || n > maxBulk {
		return nil, errProtocol
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
	if n < 0 || n > maxElements || depth == maxDepth {
		return nil, errProtocol
	}
	list := make([]any, 0, min(n, 1024))
	for range n {
		v, err := readReply(in, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}
