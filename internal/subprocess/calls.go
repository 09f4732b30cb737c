package subprocess

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/taskgen/taskgen/codec"
)

// maxCalls is how many calls of one run are served at once. Further ones are refused
// and not queued: a served call could depend on a queued one.
const maxCalls = 1024

// calls are the calls of one run that are being served.
type calls struct {
	derive func() (context.Context, context.CancelFunc) // from Run's ctx, for each call
	work   sync.WaitGroup

	mu   sync.Mutex
	over bool
	open map[uint64]context.CancelFunc
}

// begin returns the context of a new call, or an error if the call is refused.
func (k *calls) begin(id uint64) (context.Context, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.over:
		return nil, errRunOver
	case len(k.open) >= maxCalls:
		return nil, fmt.Errorf("more than %d calls at once", maxCalls)
	case k.open == nil:
		k.open = make(map[uint64]context.CancelFunc)
	}
	if _, ok := k.open[id]; ok {
		return nil, fmt.Errorf("%w: call %d is being served already", errProtocol, id)
	}
	ctx, cancel := k.derive()
	k.open[id] = cancel
	k.work.Add(1)
	return ctx, nil
}

// cancel cancels a call.
func (k *calls) cancel(id uint64) {
	k.mu.Lock()
	cancel := k.open[id]
	k.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// done ends a call that begin has begun.
func (k *calls) done(id uint64) {
	k.cancel(id)
	k.mu.Lock()
	delete(k.open, id)
	k.mu.Unlock()
	k.work.Done()
}

// end cancels all calls and waits until they have returned.
func (k *calls) end() {
	k.mu.Lock()
	k.over = true
	for _, cancel := range k.open {
		cancel()
	}
	k.mu.Unlock()
	k.work.Wait()
}

// errProtocol marks a frame that no child sends.
var errProtocol = errors.New("protocol violated")

// serveCall starts serving a call.
func (c *child) serveCall(r *activeRun, id uint64, method string, body []byte) error {
	ctx, err := r.calls.begin(id)
	if errors.Is(err, errProtocol) {
		return err
	}
	if err != nil {
		c.reply(r.seq, id, nil, err)
		return nil
	}
	go func() {
		defer r.calls.done(id)
		result, err := c.call(ctx, r, method, body)
		if ctx.Err() == nil {
			c.reply(r.seq, id, result, err)
		}
	}()
	return nil
}

func (c *child) call(ctx context.Context, r *activeRun, method string, body []byte) (result []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			result, err = nil, fmt.Errorf("serving the call panicked: %v", v)
		}
	}()
	return c.pool.cfg.Call(ctx, r.run, method, body)
}

// reply sends the reply to a call. It drops a write error: then the child is ending
// or being killed, and its reader reports that.
func (c *child) reply(seq, id uint64, body []byte, err error) {
	frame := appendReply(nil, seq, id, body, err)
	if tooLarge := c.w.check(frame); tooLarge != nil {
		frame = appendReply(nil, seq, id, nil, tooLarge)
	}
	_ = c.w.write(frame, nil)
}

func appendCall(seq, id uint64, method string, body []byte) []byte {
	b := codec.AppendUint(newFrame(nil, frameCall, seq), id)
	return codec.AppendBytes(appendText(b, method, maxText), body)
}

func appendCancelCall(seq, id uint64) []byte {
	return codec.AppendUint(newFrame(nil, frameCancelCall, seq), id)
}

// appendReply appends a reply frame. Its error text is nil if err is nil, because the
// text of an error may be empty.
func appendReply(b []byte, seq, id uint64, body []byte, err error) []byte {
	b = codec.AppendUint(newFrame(b, frameReply, seq), id)
	b = codec.AppendBytes(b, body)
	if err == nil {
		return codec.AppendNil(b)
	}
	return appendText(b, err.Error(), maxText)
}

func readReply(r *codec.Reader) (id uint64, body []byte, callErr, err error) {
	id, body = r.Uint64(), r.Bytes()
	if !r.Nil() {
		callErr = errors.New(r.String())
	}
	return id, body, callErr, r.Done()
}
