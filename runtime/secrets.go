package runtime

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/taskgen/taskgen/broker"
)

const (
	// shortestSecret is the least length that is looked for: less would hide
	// what has nothing to do with it.
	shortestSecret = 4
	// mostSecrets and mostForms bound what is looked for: values, and the bytes
	// of memory that the forms take in which they are written. Beyond, texts are
	// hidden whole.
	mostSecrets = 20_000
	mostForms   = 16 << 20
	perForm     = 32 // bytes that a form takes besides its text
)

// hidden stands for a secret.
const hidden = "***"

// secrets finds the values of a run's secret parameters in text that leaves the
// process: as they are, and in the forms in which programs write them. A nil one
// has none. It may be used concurrently.
type secrets struct {
	forms map[[shortestSecret]byte][]string // by their first bytes
	size  int
	count int
	all   bool     // they are too many to be looked for
	older *secrets // are looked for too; may be nil
}

func newSecrets() *secrets { return &secrets{forms: make(map[[shortestSecret]byte][]string)} }

// hide returns text with *** in place of secret values.
func (s *secrets) hide(text string) string { return s.mask(text, false) }

// mask is hide. In a text that was cut it also masks what its end has of a value.
func (s *secrets) mask(text string, cut bool) string {
	if s == nil || text == "" {
		return text
	}
	if s.all {
		return hidden
	}
	whole := identity(text)
	secret := s.find(nil, whole, cut)
	for range mostUnescapings {
		if strings.Contains(whole.text, "+") {
			if form, ok := whole.unescape(true, cut); ok {
				secret = s.find(secret, form, cut)
			}
		}
		inner, ok := whole.unescape(false, cut)
		if !ok {
			break
		}
		secret = s.find(secret, inner, cut)
		whole = inner
	}
	return masked(text, secret)
}

// part is from which byte to which a text has a secret.
type part struct{ from, to int }

// find adds the parts of the original in which a text has secrets.
func (s *secrets) find(parts []part, u unescaped, cut bool) []part {
	for i := 0; i < len(u.text); {
		end := i + s.match(u.text[i:], cut)
		if end == i {
			i++
			continue
		}
		for j := i + 1; j < end; j++ { // others that begin within it
			end = max(end, j+s.match(u.text[j:], cut))
		}
		found := part{i, end}
		if u.at != nil {
			found = part{int(u.at[i]), int(u.at[end])}
		}
		parts = append(parts, found)
		i = end
	}
	return parts
}

// masked returns text with *** in place of its parts.
func masked(text string, parts []part) string {
	if len(parts) == 0 {
		return text
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.from, b.from) })
	var b strings.Builder
	done := 0
	for i := 0; i < len(parts); {
		from, to := parts[i].from, parts[i].to
		for i++; i < len(parts) && parts[i].from < to; i++ {
			to = max(to, parts[i].to)
		}
		b.WriteString(text[done:from])
		b.WriteString(hidden)
		done = to
	}
	b.WriteString(text[done:])
	return b.String()
}

// match returns how many bytes of a secret text begins with. A text that was cut
// may have only the first of them.
func (s *secrets) match(text string, cut bool) int {
	if len(text) < shortestSecret {
		return 0
	}
	n := 0
	if s.older != nil {
		n = s.older.match(text, cut)
	}
	for _, form := range s.forms[[shortestSecret]byte([]byte(text[:shortestSecret]))] {
		switch {
		case strings.HasPrefix(text, form):
			return max(n, len(form)) // the longest come first
		case cut && len(text) < len(form) && strings.HasPrefix(form, text):
			return len(text)
		}
	}
	return n
}

// another counts a value, and reports whether it is looked for.
func (s *secrets) another() bool {
	if s.count++; s.count > mostSecrets {
		s.tooMany()
	}
	return !s.all
}

// tooMany has all texts hidden whole.
func (s *secrets) tooMany() { s.all, s.forms = true, nil }

// add adds one form.
func (s *secrets) add(form string) {
	if len(form) < shortestSecret || s.all {
		return
	}
	if s.size += len(form) + perForm; s.size > mostForms {
		s.tooMany()
		return
	}
	key := [shortestSecret]byte([]byte(form[:shortestSecret]))
	s.forms[key] = append(s.forms[key], form)
}

// sort puts longer forms before those that they begin with.
func (s *secrets) sort() {
	for key, forms := range s.forms {
		slices.SortFunc(forms, longerFirst)
		s.forms[key] = slices.Compact(forms)
	}
}

func longerFirst(a, b string) int {
	return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
}

// A stack shows arguments and registers, and so the secrets in them.
var (
	frameArguments = regexp.MustCompile(`(?m)^([^\t\n][^\n]*[^\s(])\((?:[0-9a-fx, {}?_]|\.\.\.)+\)$`)
	registers      = regexp.MustCompile(`(?m)^([a-z][a-z0-9]{1,7})([ \t]+)0x[0-9a-f]+$`)
)

// hideStack is hide for stacks and what processes print as they crash.
func (s *secrets) hideStack(stack string) string { return s.maskStack(stack, false) }

// maskStack is hideStack as mask is hide.
func (s *secrets) maskStack(stack string, cut bool) string {
	if s == nil || stack == "" {
		return stack
	}
	// Lines of output are seldom of a stack, and to match costs much more than this.
	if strings.HasSuffix(stack, ")") || strings.Contains(stack, ")\n") {
		stack = frameArguments.ReplaceAllString(stack, "$1(...)")
	}
	if strings.Contains(stack, "0x") {
		stack = registers.ReplaceAllString(stack, "$1$2"+hidden)
	}
	return s.mask(stack, cut)
}

// hideFailure hides what a failure says of them.
func (s *secrets) hideFailure(f *broker.Failure) {
	if s != nil {
		f.Message, f.Stack = s.hideStack(f.Message), s.hideStack(f.Stack)
	}
}

// runSecrets are those of a run, looked for when they are first asked for: most
// runs end well and say nothing. A nil one has none.
type runSecrets struct {
	task    *Task
	payload []byte

	once  sync.Once
	found *secrets
}

// secretsOf returns the secrets of a run with this payload; nil if its task has
// no secret parameters.
func (t *Task) secretsOf(payload []byte) *runSecrets {
	if len(t.spec.Secrets) == 0 {
		return nil
	}
	return &runSecrets{task: t, payload: payload}
}

func (r *runSecrets) get() *secrets {
	if r == nil {
		return nil
	}
	r.once.Do(func() { r.found = r.task.findSecrets(r.payload) })
	return r.found
}
