package subprocess

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
)

// Both ends are the same binary, so a version that differs means a descriptor
// that belongs to somebody else.
const (
	magic    = "taskgen-child"
	protocol = 1
)

const (
	maxHandshake = 4 << 10  // bytes of a frame before both sides know each other
	maxText      = 64 << 10 // bytes of an error text, a stack, a log value
	keepBuffer   = 64 << 10 // a larger buffer is not kept for the next frame
)

type frameKind uint8

// The frames of the protocol. Those of a run carry its sequence number, others
// carry 0.
const (
	frameSetup  frameKind = iota + 1 // to the child, first: magic, version, frame limit
	frameHello                       // to the parent, first: magic, version
	frameRun                         // to the child: time left, log level, the run
	frameCancel                      // to the child: timeout or not, why
	frameBye                         // to the child: no more runs will come
	frameAnswer                      // to the parent: what the handler said; the run is over
	frameCall                        // to the parent: id, method, body
	frameReply                       // to the child: id, body, error text
	frameForget                      // to the parent: id of a call nobody waits for any more
	frameLog                         // to the parent: a log record
)

// fields is the length of a frame's array.
func (k frameKind) fields() int {
	switch k {
	case frameSetup, frameRun, frameCall, frameReply:
		return 5
	case frameHello, frameCancel:
		return 4
	case frameBye:
		return 2
	case frameForget:
		return 3
	case frameAnswer:
		return 8
	case frameLog:
		return 6
	}
	return -1
}

// newFrame appends the start of a frame to b: room for its length, and the
// fields that every frame has.
func newFrame(b []byte, kind frameKind, seq uint64) []byte {
	b = append(b[:0], 0, 0, 0, 0)
	b = codec.AppendArrayLen(b, kind.fields())
	b = codec.AppendUint(b, uint64(kind))
	return codec.AppendUint(b, seq)
}

// openFrame reads what every frame has and returns a reader of the rest.
func openFrame(body []byte) (frameKind, uint64, *codec.Reader, error) {
	r := codec.NewReader(body)
	n, kind, seq := r.ArrayLen(), frameKind(r.Uint8()), r.Uint64()
	if err := r.Err(); err != nil {
		return 0, 0, nil, fmt.Errorf("decode frame: %w", err)
	}
	if n != kind.fields() {
		return 0, 0, nil, fmt.Errorf("decode frame: type %d with %d fields", kind, n)
	}
	return kind, seq, r, nil
}

// appendText appends s, cut to max bytes and made valid UTF-8: error texts and
// log lines come from anywhere, and the reader takes nothing else.
func appendText(b []byte, s string, max int) []byte {
	if len(s) > max {
		s = s[:max]
	}
	return codec.AppendString(b, strings.ToValidUTF8(s, "\uFFFD"))
}

// frameWriter writes frames from many goroutines, each whole.
type frameWriter struct {
	max int

	mu sync.Mutex
	w  io.Writer
}

// write writes a frame made by newFrame. With allowed it asks, while no other
// frame can come between, whether the frame may still be written, and returns
// errRunOver if not.
func (w *frameWriter) write(frame []byte, allowed func() bool) error {
	if err := w.check(frame); err != nil {
		return err
	}
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	w.mu.Lock()
	defer w.mu.Unlock()
	if allowed != nil && !allowed() {
		return errRunOver
	}
	_, err := w.w.Write(frame)
	return err
}

// check returns an error that wraps ErrTooLarge for a frame over the limit.
func (w *frameWriter) check(frame []byte) error {
	if n := len(frame) - 4; n > w.max {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrTooLarge, n, w.max)
	}
	return nil
}

// frameReader reads frames; it is for one goroutine.
type frameReader struct {
	r   *bufio.Reader
	max int
	buf []byte
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, 16<<10), max: maxHandshake}
}

// errBadLength marks a declared length that no frame has.
var errBadLength = errors.New("bad frame length")

// next returns the next frame's body, which is valid until the following call.
// It returns io.EOF at the end between two frames. A declared length is
// refused before anything is allocated for it, and what is allocated is never
// more than twice what has really come.
func (f *frameReader) next() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || uint64(n) > uint64(f.max) {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", errBadLength, n, f.max)
	}
	if cap(f.buf) > keepBuffer && n <= keepBuffer {
		f.buf = nil
	}
	f.buf = f.buf[:0]
	for size := int(n); len(f.buf) < size; {
		step := min(size-len(f.buf), max(keepBuffer, len(f.buf)))
		at := len(f.buf)
		f.buf = append(f.buf, make([]byte, step)...)
		if _, err := io.ReadFull(f.r, f.buf[at:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return f.buf, nil
}

func appendSetup(b []byte, maxFrame int) []byte {
	b = newFrame(b, frameSetup, 0)
	b = codec.AppendUint(codec.AppendString(b, magic), protocol)
	return codec.AppendInt(b, int64(maxFrame))
}

func readSetup(r *codec.Reader) (maxFrame int, err error) {
	if err := readMagic(r); err != nil {
		return 0, err
	}
	maxFrame = r.Int()
	return maxFrame, r.Done()
}

func appendHello(b []byte) []byte {
	return codec.AppendUint(codec.AppendString(newFrame(b, frameHello, 0), magic), protocol)
}

func readHello(r *codec.Reader) error {
	if err := readMagic(r); err != nil {
		return err
	}
	return r.Done()
}

func readMagic(r *codec.Reader) error {
	m, v := r.String(), r.Uint64()
	if err := r.Err(); err != nil {
		return err
	}
	if m != magic || v != protocol {
		return fmt.Errorf("%.32q version %d where %q version %d was expected", m, v, magic, protocol)
	}
	return nil
}

// order is a run as it crosses to the child.
type order struct {
	run     *broker.TaskRun
	limited bool
	left    time.Duration // until the deadline, if it is limited: clocks may be set
	level   int           // the lowest level of log records that anybody reads
}

func (o order) append(b []byte, seq uint64) ([]byte, error) {
	run, err := o.run.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode run: %w", err)
	}
	b = newFrame(b, frameRun, seq)
	if o.limited {
		b = codec.AppendDuration(b, o.left)
	} else {
		b = codec.AppendNil(b)
	}
	return codec.AppendBytes(codec.AppendInt(b, int64(o.level)), run), nil
}

func readOrder(r *codec.Reader) (order, error) {
	var o order
	if !r.Nil() {
		o.limited, o.left = true, r.Duration()
	}
	o.level = r.Int()
	b := r.Bytes()
	if err := r.Done(); err != nil {
		return o, err
	}
	o.run = new(broker.TaskRun)
	return o, o.run.UnmarshalBinary(b)
}

func (a *Response) append(b []byte, seq uint64) []byte {
	b = newFrame(b, frameAnswer, seq)
	b = codec.AppendBytes(b, a.Result)
	var f broker.Failure
	if a.Failure != nil {
		f = *a.Failure
		if f.Kind == "" {
			f.Kind = "failed" // an empty kind is how a success crosses
		}
	}
	b = appendText(b, f.Kind, maxText)
	b = appendText(b, f.Message, maxText)
	b = appendText(b, f.Stack, maxText)
	return codec.AppendDuration(codec.AppendBool(b, a.Permanent), a.RetryAfter)
}

func readAnswer(r *codec.Reader) (*Response, error) {
	a := &Response{Result: r.Bytes()}
	f := broker.Failure{Kind: r.String(), Message: r.String(), Stack: r.String()}
	if f.Kind != "" {
		a.Failure = &f
	}
	a.Permanent, a.RetryAfter = r.Bool(), r.Duration()
	return a, r.Done()
}
