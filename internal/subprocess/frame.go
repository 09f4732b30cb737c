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

// Both ends are the same binary: a mismatch means that the descriptor belongs to
// another program.
const (
	magic    = "taskgen-child"
	protocol = 5
)

const (
	maxHello   = 4 << 10  // bytes of the first frame to the parent
	maxSetup   = 60 << 10 // bytes of the first frame to the child, which holds the schema
	maxText    = 64 << 10 // bytes of an error text, a stack, a log value
	keepBuffer = 64 << 10 // larger buffers are not kept for the next frame
)

type frameKind uint8

// The types of frames. Frames of a run carry its sequence number, others carry 0.
const (
	frameSetup      frameKind = iota + 1 // to the child, first: magic, version, frame limit, limits, schema
	frameHello                           // to the parent, first: magic, version, limits, what failed, what is missing
	frameRun                             // to the child: remaining time, log level, memory cap, decoding cap, the run
	frameCancel                          // to the child: whether it is a timeout, the cause
	frameShutdown                        // to the child: no more runs will come
	frameAnswer                          // to the parent: the outcome; the run has ended
	frameCall                            // to the parent: id, method, body
	frameReply                           // to the child: id, body, error text
	frameCancelCall                      // to the parent: id of a call that nobody waits for
	frameLog                             // to the parent: a log record
	frameStack                           // to the parent, after SIGQUIT: stacks of goroutines
)

// fields returns the length of a frame's array.
func (k frameKind) fields() int {
	switch k {
	case frameShutdown:
		return 2
	case frameCancelCall, frameStack:
		return 3
	case frameCancel:
		return 4
	case frameCall, frameReply:
		return 5
	case frameLog:
		return 6
	case frameRun, frameHello:
		return 7
	case frameAnswer, frameSetup:
		return 9
	}
	return -1
}

// newFrame starts a frame in b, overwriting it: space for the length, and the fields
// that every frame has.
func newFrame(b []byte, kind frameKind, seq uint64) []byte {
	b = append(b[:0], 0, 0, 0, 0)
	b = codec.AppendArrayLen(b, kind.fields())
	b = codec.AppendUint(b, uint64(kind))
	return codec.AppendUint(b, seq)
}

// openFrame reads the fields that every frame has, and returns a reader of the rest.
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

// appendText appends s, cut to max bytes and made valid UTF-8, which the reader
// requires.
func appendText(b []byte, s string, max int) []byte {
	if len(s) > max {
		s = s[:max]
	}
	return codec.AppendString(b, strings.ToValidUTF8(s, "\uFFFD"))
}

// frameWriter writes whole frames. It may be used concurrently.
type frameWriter struct {
	max int

	mu sync.Mutex
	w  io.Writer
}

// write writes a frame made by newFrame. If allowed is not nil, write calls it under
// the lock, so that no other frame can come between, and returns errRunOver if it
// reports false.
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

// check returns an error that wraps ErrTooLarge if the frame is larger than the
// limit.
func (w *frameWriter) check(frame []byte) error {
	if n := len(frame) - 4; n > w.max {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrTooLarge, n, w.max)
	}
	return nil
}

// frameReader reads frames. Only one goroutine may use it at a time.
type frameReader struct {
	r    *bufio.Reader
	max  int
	used int    // bytes of r that the last frame occupies
	buf  []byte // of the last large frame
}

func newFrameReader(r io.Reader, max int) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, 16<<10), max: max}
}

// errBadLength marks a length that no frame can have.
var errBadLength = errors.New("bad frame length")

// next returns the body of the next frame, which is valid until the following call.
// It returns io.EOF if the stream ends between two frames. It refuses a bad length
// before it allocates anything, and never allocates more than twice the bytes
// received.
func (f *frameReader) next() ([]byte, error) {
	if _, err := f.r.Discard(f.used); err != nil {
		return nil, err // impossible: these bytes were peeked
	}
	f.used = 0
	head, err := f.r.Peek(4)
	if err != nil {
		if err == io.EOF && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	n := binary.BigEndian.Uint32(head)
	if n == 0 || uint64(n) > uint64(f.max) {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", errBadLength, n, f.max)
	}
	if size := int(n) + 4; size <= f.r.Size() {
		frame, err := f.r.Peek(size)
		if err != nil {
			return nil, cutShort(err)
		}
		f.used = size
		return frame[4:], nil
	}
	return f.large(int(n))
}

// large reads a frame that is larger than the buffer of the bufio.Reader.
func (f *frameReader) large(size int) ([]byte, error) {
	if _, err := f.r.Discard(4); err != nil {
		return nil, err
	}
	if cap(f.buf) > keepBuffer && size <= keepBuffer {
		f.buf = nil
	}
	f.buf = f.buf[:0]
	for len(f.buf) < size {
		step := min(size-len(f.buf), max(keepBuffer, len(f.buf)))
		at := len(f.buf)
		f.buf = append(f.buf, make([]byte, step)...)
		if _, err := io.ReadFull(f.r, f.buf[at:]); err != nil {
			return nil, cutShort(err)
		}
	}
	return f.buf, nil
}

// more returns how many bytes have come after the last returned frame.
func (f *frameReader) more() int { return f.r.Buffered() - f.used }

func cutShort(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// setup is the first frame to a child.
type setup struct {
	maxFrame int
	limits   childLimits
	schema   []byte // fingerprints of the tasks that it must have
}

func (s setup) append(b []byte) []byte {
	b = newFrame(b, frameSetup, 0)
	b = codec.AppendUint(codec.AppendString(b, magic), protocol)
	b = codec.AppendInt(b, int64(s.maxFrame))
	b = codec.AppendInt(b, int64(s.limits.threads))
	b = codec.AppendInt(b, int64(s.limits.nice))
	b = codec.AppendInt(b, int64(s.limits.oomScore))
	return codec.AppendBytes(b, s.schema)
}

func readSetup(r *codec.Reader) (setup, error) {
	var s setup
	if err := readMagic(r); err != nil {
		return s, err
	}
	s.maxFrame = r.Int()
	s.limits = childLimits{threads: r.Int(), nice: r.Int(), oomScore: r.Int()}
	s.schema = r.Bytes()
	return s, r.Done()
}

// hello is the first frame to the parent: the child is ready, with these limits.
type hello struct {
	active  []string
	failed  string // the limits that could not be set, and why; empty if none
	missing int    // the first missing entry of the schema, counted from 1; 0 if none
}

func (h hello) append(b []byte) []byte {
	b = codec.AppendUint(codec.AppendString(newFrame(b, frameHello, 0), magic), protocol)
	b = appendText(b, strings.Join(h.active, ","), maxText)
	return codec.AppendInt(appendText(b, h.failed, maxText), int64(h.missing))
}

func readHello(r *codec.Reader) (hello, error) {
	var h hello
	if err := readMagic(r); err != nil {
		return h, err
	}
	if active := r.String(); active != "" {
		h.active = strings.Split(active, ",")
	}
	h.failed, h.missing = r.String(), r.Int()
	return h, r.Done()
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

// runMessage is a run as it crosses to the child.
type runMessage struct {
	run         *broker.TaskRun
	hasDeadline bool
	remaining   time.Duration // until the deadline, if hasDeadline; the clock may be changed meanwhile, so not an instant
	level       int           // the lowest level that the parent's logger handles
	memory      int64         // cap in bytes; 0 for none
	decode      int           // bytes that decoding the parameters may take; 0 for the codec's default
}

func (o runMessage) append(b []byte, seq uint64) ([]byte, error) {
	b = newFrame(b, frameRun, seq)
	if o.hasDeadline {
		b = codec.AppendDuration(b, o.remaining)
	} else {
		b = codec.AppendNil(b)
	}
	b = codec.AppendInt(codec.AppendInt(b, int64(o.level)), o.memory)
	b = codec.AppendInt(b, int64(o.decode))
	run, err := o.run.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode run: %w", err)
	}
	return codec.AppendBytes(b, run), nil
}

func readRunMessage(r *codec.Reader) (runMessage, error) {
	var o runMessage
	if !r.Nil() {
		o.hasDeadline, o.remaining = true, r.Duration()
	}
	o.level, o.memory, o.decode = r.Int(), r.Int64(), r.Int()
	b := r.Bytes()
	if err := r.Done(); err != nil {
		return o, err
	}
	o.run = new(broker.TaskRun)
	return o, o.run.UnmarshalBinary(b)
}

func (a *Response) append(b []byte, seq uint64) []byte {
	b = newFrame(b, frameAnswer, seq)
	b = codec.AppendBytes(codec.AppendBytes(b, a.Result), a.Call)
	var f broker.Failure
	if a.Failure != nil {
		f = *a.Failure
		if f.Kind == "" {
			f.Kind = broker.FailureFailed // an empty kind means success
		}
	}
	b = appendText(b, string(f.Kind), maxText)
	b = appendText(b, f.Message, maxText)
	b = appendText(b, f.Stack, maxText)
	return codec.AppendDuration(codec.AppendDuration(codec.AppendBool(b, a.Permanent), a.RetryAfter), a.Snooze)
}

func readAnswer(r *codec.Reader) (*Response, error) {
	a := &Response{Result: r.Bytes(), Call: r.Bytes()}
	f := broker.Failure{Kind: broker.FailureKind(r.String()), Message: r.String(), Stack: r.String()}
	if f.Kind != "" {
		a.Failure = &f
	}
	a.Permanent, a.RetryAfter, a.Snooze = r.Bool(), r.Duration(), r.Duration()
	return a, r.Done()
}

func appendCancel(b []byte, seq uint64, timeout bool, cause error) []byte {
	b = codec.AppendBool(newFrame(b, frameCancel, seq), timeout)
	return appendText(b, cause.Error(), maxText)
}
