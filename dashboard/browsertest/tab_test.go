package browsertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// patience is how long a tab waits for what a test expects.
const patience = 20 * time.Second

// tab is a tab of the browser with cookies and storage of its own. It is used by one goroutine.
type tab struct {
	t    *testing.T
	ctx  context.Context
	base string // address of the dashboard, with a slash at its end

	mu       sync.Mutex
	problems []string // what pages did that no page should
	asked    []string // the questions that were answered with yes
	expected []string // parts of problems that the test is about
}

// newTab opens a tab. It shows nothing yet.
func newTab(t *testing.T, base string) *tab {
	t.Helper()
	b := &tab{t: t, base: base}
	bounded, stop := context.WithTimeout(chromium, 6*patience)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(bounded, chromedp.WithNewBrowserContext(), chromedp.WithListener(b.hear))
	b.ctx = ctx
	t.Cleanup(cancel)
	_, err := chromedp.Call(ctx, log.Enable, cdp.Empty{})
	require.NoError(t, err)
	b.size(1280, 900)
	t.Cleanup(b.checkProblems) // before it is closed
	return b
}

// hear notes errors of the page as problems of the test, and confirms its dialogs.
func (b *tab) hear(event any) {
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError {
			b.problem(fmt.Sprintf("%s error: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *runtime.EventExceptionThrown:
		b.problem("exception: " + textOf(e.ExceptionDetails))
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError {
			b.problem("console.error")
		}
	case *page.EventJavascriptDialogOpening:
		b.mu.Lock()
		b.asked = append(b.asked, e.Message)
		b.mu.Unlock()
		go func() {
			_, _ = chromedp.Call(b.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true}) // the tab may be closed
		}()
	}
}

func (b *tab) problem(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, text)
}

// expect has problems with a part of this text be what the test is about.
func (b *tab) expect(part string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = append(b.expected, part)
}

// questions returns those that pages asked since the last call.
func (b *tab) questions() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	asked := b.asked
	b.asked = nil
	return asked
}

// checkProblems fails the test if a page did what it should not.
func (b *tab) checkProblems() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, problem := range b.problems {
		known := false
		for _, part := range b.expected {
			known = known || strings.Contains(problem, part)
		}
		if !known {
			b.t.Errorf("a page did what it should not: %s", problem)
		}
	}
	b.problems = nil
	for _, question := range b.asked {
		b.t.Errorf("a page asked what the test does not expect: %s", question)
	}
	b.asked = nil
}

func textOf(e *runtime.ExceptionDetails) string {
	if e.Exception != nil {
		return e.Text + " " + e.Exception.Description
	}
	return e.Text
}

// open goes to a page by its relative address and waits until it is there.
func (b *tab) open(address string) {
	b.t.Helper()
	to, err := url.Parse(b.base)
	require.NoError(b.t, err)
	to, err = to.Parse(address)
	require.NoError(b.t, err)
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	_, err = chromedp.Run(ctx, chromedp.Navigate(to.String()))
	require.NoError(b.t, err, "open %s", to)
}

// evaluate returns the value of an expression in the page, which may be a promise.
func evaluate[T any](b *tab, expression string) T {
	b.t.Helper()
	var v T
	require.NoError(b.t, b.try(expression, &v), expression)
	return v
}

func (b *tab) try(expression string, to any) error {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	yes := true
	done, err := chromedp.Call(ctx, runtime.Evaluate, runtime.EvaluateParams{Expression: expression, ReturnByValue: &yes, AwaitPromise: &yes})
	if err != nil {
		return err
	}
	if done.ExceptionDetails != nil {
		return errors.New(textOf(done.ExceptionDetails))
	}
	if to == nil || len(done.Result.Value) == 0 {
		return nil
	}
	return json.Unmarshal(done.Result.Value, to)
}

// await waits until an expression in the page is true, whichever page that is.
func (b *tab) await(what, expression string) {
	b.t.Helper()
	var err error
	var is bool
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-again.C {
		is = false
		if err = b.try("!!("+expression+")", &is); err == nil && is { // a page that is left has an error
			return
		}
	}
	b.t.Fatalf("%s: not within %v (last error %v). Page %s says:\n%s", what, patience, err, b.address(), b.text())
}

// awaitText waits until the page shows a text.
func (b *tab) awaitText(text string) {
	b.t.Helper()
	b.await("the page says "+text, "document.body.innerText.includes("+quote(text)+")")
}

// awaitPage waits until the tab shows the page of a name, with all of these in its query.
func (b *tab) awaitPage(name string, pairs ...string) {
	b.t.Helper()
	test := "document.readyState === 'complete' && location.pathname.replace(/.*\\//, '') === " + quote(name)
	for i := 0; i+1 < len(pairs); i += 2 {
		test += " && new URLSearchParams(location.search).getAll(" + quote(pairs[i]) + ").includes(" + quote(pairs[i+1]) + ")"
	}
	b.await("page "+name+" "+strings.Join(pairs, " ")+" is there", test)
}

// address returns that of the page.
func (b *tab) address() (at string) {
	_ = b.try("location.href", &at) // it says nothing then
	return at
}

// text returns what the page shows as text.
func (b *tab) text() (text string) {
	_ = b.try("document.body.innerText", &text) // it says nothing then
	return text
}

// find is an expression for the visible elements of a selector that contain a text.
func find(selector, text string) string {
	return "[...document.querySelectorAll(" + quote(selector) + ")].filter(e => e.checkVisibility({visibilityProperty: true})" +
		" && (e.innerText || e.value || e.ariaLabel || '').trim().includes(" + quote(text) + "))"
}

// click clicks with the mouse at the first visible element of a selector that contains a text.
// It fails if something else lies over it.
func (b *tab) click(selector, text string) {
	b.t.Helper()
	b.await("there is "+selector+" with "+text, "document.readyState === 'complete' && "+find(selector, text)+".length > 0")
	at := evaluate[struct {
		X, Y float64
		Over string
	}](b, `(() => {
		const e = `+find(selector, text)+`[0];
		e.scrollIntoView({block: 'center', behavior: 'instant'});
		const r = e.getClientRects()[0], x = r.x + r.width / 2, y = r.y + r.height / 2;
		const top = document.elementFromPoint(x, y);
		return {X: x, Y: y, Over: top && (e.contains(top) || top.contains(e)) ? '' : 'covered by ' + (top ? top.outerHTML.slice(0, 200) : 'nothing: it is outside of the window')};
	})()`)
	require.Empty(b.t, at.Over, "%s with %s cannot be clicked", selector, text)
	b.run(chromedp.MouseClickXY(at.X, at.Y))
}

// fill types a text into the field of a selector, in place of what it has.
func (b *tab) fill(selector, text string) {
	b.t.Helper()
	b.await("there is field "+selector, "document.querySelector("+quote(selector)+")")
	evaluate[any](b, "(() => { const e = document.querySelector("+quote(selector)+"); e.scrollIntoView({block: 'center'}); e.focus(); e.select(); })()")
	if text == "" {
		b.press(kb.Delete)
		return
	}
	b.run(chromedp.KeyEvent(text))
}

// press presses keys, one after the other.
func (b *tab) press(keys string) {
	b.t.Helper()
	b.run(chromedp.KeyEvent(keys))
}

func (b *tab) run(action chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	_, err := chromedp.Run(ctx, action)
	require.NoError(b.t, err)
}

// size sets the size of the window.
func (b *tab) size(width, height int64) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1})
	require.NoError(b.t, err)
}

// prefer sets what the person prefers: pairs of a media feature and its value.
func (b *tab) prefer(pairs ...string) {
	b.t.Helper()
	var features []*emulation.MediaFeature
	for i := 0; i+1 < len(pairs); i += 2 {
		features = append(features, &emulation.MediaFeature{Name: pairs[i], Value: pairs[i+1]})
	}
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
	require.NoError(b.t, err)
}

// inFront opens another tab in the window of this one, which hides it, and returns what closes
// the other.
func (b *tab) inFront() (back func()) {
	b.t.Helper()
	other, closeOther := chromedp.NewContext(b.ctx, chromedp.WithNewWindow(false))
	_, err := chromedp.Call(other, page.BringToFront, cdp.Empty{})
	require.NoError(b.t, err)
	return func() {
		b.t.Helper()
		closeOther()
		b.front()
	}
}

// front brings the tab to the front of its window.
func (b *tab) front() {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, page.BringToFront, cdp.Empty{})
	require.NoError(b.t, err)
}

// lifecycle freezes the page, as browsers do to save power, and lets it go on.
func (b *tab) lifecycle(state page.SetWebLifecycleStateState) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: state})
	require.NoError(b.t, err)
}

// scripts switches the scripts of pages on or off.
func (b *tab) scripts(on bool) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
	require.NoError(b.t, err)
}

// quote returns a text as one of JavaScript.
func quote(text string) string {
	b, err := json.Marshal(text) // of a text it has no error
	if err != nil {
		return `""`
	}
	return string(b)
}
