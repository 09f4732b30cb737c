package runtime

import (
	"context"
	"sync"
	"time"

	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/subprocess"
)

// tellEvery is how often a child process tells its parent of progress at most.
const tellEvery = 100 * time.Millisecond

// progressTeller takes the progress of a run in a child process to the parent.
type progressTeller struct {
	base   context.Context
	parent *subprocess.Parent
	run    *runContext

	mu      sync.Mutex
	ctx     context.Context // ends with the run; nil: nothing was told yet
	cancel  context.CancelFunc
	timer   *time.Timer // nil: nothing was told lately
	news    bool        // something was said that is not told yet
	over    bool
	telling sync.WaitGroup
}

func newProgressTeller(ctx context.Context, parent *subprocess.Parent, run *runContext) *progressTeller {
	t := &progressTeller{base: ctx, parent: parent, run: run}
	run.offers.tell = t.tell
	return t
}

// tell has the parent told, at once if that was not done lately.
func (t *progressTeller) tell() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return
	}
	t.news = true
	if t.ctx == nil {
		t.ctx, t.cancel = context.WithCancel(t.base)
	}
	if t.timer == nil {
		t.start(0)
	}
}

// start sends after a while what is then the latest. The lock is held.
func (t *progressTeller) start(after time.Duration) {
	t.telling.Add(1)
	t.timer = time.AfterFunc(after, t.send)
}

// send tells the parent, one at a time so that what was said last is told last,
// and again a while later until there is nothing new.
func (t *progressTeller) send() {
	defer t.telling.Done()
	t.mu.Lock()
	news := t.news && !t.over
	t.news = false
	if !news {
		t.timer = nil
	}
	t.mu.Unlock()
	if !news {
		return
	}
	t.call()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.start(tellEvery)
	}
}

// end tells what is not told yet, stops the telling and waits for it.
func (t *progressTeller) end() {
	t.mu.Lock()
	t.over = true
	if t.timer != nil && t.timer.Stop() {
		t.telling.Done()
	}
	last := t.news && t.base.Err() == nil
	if t.cancel != nil && !last {
		t.cancel()
	}
	t.mu.Unlock()
	t.telling.Wait()
	if last {
		t.call()
	}
	if t.cancel != nil {
		t.cancel()
	}
}

// call tells the parent what was said last. It fails when the run is over.
func (t *progressTeller) call() {
	p := t.run.progress.Load()
	body := codec.AppendString(codec.AppendInt(codec.AppendInt(nil, p.Done), p.Total), p.Note)
	_, _ = t.parent.Call(t.ctx, callTell, body)
}
