package secret

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

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

// Values are the values of a run's secret parameters. They are found in text as they are,
// and in the forms in which programs write them. Its exported methods work on nil, which
// has no values, and may be called concurrently.
type Values struct {
	forms map[[shortestSecret]byte][]string // by their first bytes
	size  int
	count int
	all   bool    // they are too many to be looked for
	older *Values // are looked for too; may be nil
}

func newValues() *Values { return &Values{forms: make(map[[shortestSecret]byte][]string)} }

// Hide returns text with *** in place of secret values.
func (s *Values) Hide(text string) string { return s.mask(text, false) }

// mask is Hide. In a text that was cut it also masks what its end has of a value.
func (s *Values) mask(text string, cut bool) string {
	if s == nil || text == "" || len(s.forms) == 0 && s.older == nil && !s.all {
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
func (s *Values) find(parts []part, u unescaped, cut bool) []part {
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
func (s *Values) match(text string, cut bool) int {
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
func (s *Values) another() bool {
	if s.count++; s.count > mostSecrets {
		s.tooMany()
	}
	return !s.all
}

// tooMany has all texts hidden whole.
func (s *Values) tooMany() { s.all, s.forms = true, nil }

// add adds one form.
func (s *Values) add(form string) {
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
func (s *Values) sort() {
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

// hideStack is Hide for stacks and what processes print as they crash.
func (s *Values) hideStack(stack string) string { return s.maskStack(stack, false) }

// maskStack is hideStack as mask is hide.
func (s *Values) maskStack(stack string, cut bool) string {
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

// HideFailure replaces secret values in a failure.
func (s *Values) HideFailure(f *broker.Failure) {
	if s != nil {
		f.Message, f.Stack = s.hideStack(f.Message), s.hideStack(f.Stack)
	}
}
