// Package directive parses //task: comments, and finds comments that were meant to be
// directives but are not.
//
// A directive has Go's official form, //task:name args, without a space before task
// or after the colon. Arguments are words and quoted Go strings: positional ones
// first, then keys with values.
package directive

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strings"
	"unicode"
)

// Problem is an error in the source.
type Problem struct {
	Pos     token.Pos
	Message string

	// Prose reports that the comment may be an ordinary sentence. It is one unless a
	// function follows.
	Prose bool
}

func problemf(pos token.Pos, format string, args ...any) *Problem {
	return &Problem{Pos: pos, Message: fmt.Sprintf(format, args...)}
}

// Directive is one //task: comment.
type Directive struct {
	Name string
	Pos  token.Pos // position of the comment
	Args []ast.DirectiveArg
	Rest Word // everything after the name, for a directive with Go source

	text string // the whole comment
}

// Word is a part of a directive and its position.
type Word struct {
	Text string
	Pos  token.Pos
}

// String returns the directive as written in source.
func (d *Directive) String() string { return "//task:" + d.Name }

// quoted reports whether the argument at pos is quoted.
func (d *Directive) quoted(pos token.Pos) bool {
	i := int(pos - d.Pos)
	return i < len(d.text) && (d.text[i] == '"' || d.text[i] == '`')
}

// candidate matches a directive and comments close to one.
var candidate = regexp.MustCompile(`^(//|/\*)[ \t]*(?i:task)[ \t]*:`)

// nearly splits such a comment: the comment opener, blanks, the tool as spelled, the
// colon with blanks, and the word after it.
var nearly = regexp.MustCompile(`^(//|/\*)([ \t]*)((?i:task))([ \t]*:[ \t]*)([\pL\pN_-]*)`)

// inSource matches in a file wherever Find may find something.
var inSource = regexp.MustCompile(`(?m)(?:(?://|/\*)/?[ \t]*(?:go:)?[+@]?(?i:` + tools + `)[ \t]*(?:[:.,;/ \t=_-]|：)|^(?:/\*)?[ \t*]*(?://)?[ \t]*task:[\pL\pN_])`)

// tools matches our tool's name and common misspellings.
const tools = `task|tasks|taks|tsk|tsak|taskgen`

// misspelt matches a comment in the form of a directive whose tool is misspelled, or
// that has another character in place of the colon.
var misspelt = regexp.MustCompile(`^//((?i:` + tools + `)(?:[ \t]*(?:[:.,;/ \t=_-]|：))[ \t]*)([\pL\pN_]+)`)

// adorned matches a comment whose tool is misspelled or ours, in the style of other
// tools' directives.
var adorned = regexp.MustCompile(`^///?([ \t]*(?:go:)?[+@]?(?i:` + tools + `)[ \t]*(?::|：)[ \t]*)([\pL\pN_]+)`)

// blockLine matches a directive on its own line within a block comment.
var blockLine = regexp.MustCompile(`(?m)^(?:/\*)?[ \t*]*((?://[ \t]*)?task:)([\pL\pN_]+)`)

// MayOccur reports whether a file may have directives. It is fast, and true for some
// files that have none.
func MayOccur(src []byte) bool { return inSource.Match(src) }

// Find returns the directive in a comment, or the problem with a comment that was
// meant to be one. Both are nil for any other comment.
func Find(c *ast.Comment) (*Directive, *Problem) {
	if !candidate.MatchString(c.Text) {
		return nil, lookalike(c)
	}
	parsed, ok := ast.ParseDirective(c.Slash, c.Text)
	if !ok || parsed.Tool != "task" {
		return nil, nearMiss(c)
	}
	d := &Directive{Name: parsed.Name, Pos: c.Slash, text: c.Text}
	if problem := d.parseArgs(parsed); problem != nil {
		return nil, problem
	}
	if _, known := table[d.Name]; !known {
		return nil, unknown(d)
	}
	return d, nil
}

// parseArgs sets the arguments, or the rest if the directive has Go source.
func (d *Directive) parseArgs(parsed ast.Directive) *Problem {
	if i := strings.IndexFunc(d.text, unsafeRune); i >= 0 {
		return problemf(d.Pos+token.Pos(i), "control character in a directive")
	}
	if table[d.Name].source {
		d.Rest = Word{parsed.Args, parsed.ArgsPos}
		return nil
	}
	args, err := parsed.ParseArgs()
	if err != nil {
		return problemf(parsed.ArgsPos, "%s: a quoted argument has no closing quote, or text follows it", d)
	}
	for _, arg := range args {
		if strings.IndexFunc(arg.Arg, unsafeRune) >= 0 {
			return problemf(arg.Pos, "control character in a directive")
		}
	}
	d.Args = args
	return nil
}

// unsafeRune reports characters that do not belong in a name or log line: control
// characters except the tab, line separators, and marks that reorder text on screen.
func unsafeRune(r rune) bool {
	return r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' || r == unicode.ReplacementChar)
}

func unknown(d *Directive) *Problem {
	// The name starts after "//task:".
	pos := d.Pos + token.Pos(len("//task:"))
	word, _, _ := strings.Cut(d.Name, ",")
	word, _, _ = strings.Cut(word, "(")
	if hint := closest(word, names()); hint != "" {
		return problemf(pos, "unknown directive %s (did you mean //task:%s?)", d, hint)
	}
	return problemf(pos, "unknown directive %s; known: %s", d, strings.Join(names(), ", "))
}

// lookalike returns the problem with a comment that is not in directive form but was
// very likely meant as one.
func lookalike(c *ast.Comment) *Problem {
	for _, form := range []*regexp.Regexp{misspelt, adorned} {
		m := form.FindStringSubmatchIndex(c.Text)
		if m == nil {
			continue
		}
		word := strings.ToLower(c.Text[m[4]:m[5]])
		if _, known := table[word]; known {
			problem := problemf(c.Slash, `looks like a directive but is not one; write "//task:%s"`, word)
			problem.Prose = strings.ContainsAny(c.Text[m[2]:m[3]], " \t") && prose(word, c.Text[m[5]:])
			return problem
		}
	}
	if !strings.HasPrefix(c.Text, "/*") {
		return nil
	}
	for _, m := range blockLine.FindAllStringSubmatchIndex(c.Text, -1) {
		word := c.Text[m[4]:m[5]]
		if _, known := table[word]; known {
			problem := problemf(c.Slash+token.Pos(m[2]), `a block comment holds no directives; write "//task:%s" in a comment of its own`, word)
			rest, _, _ := strings.Cut(c.Text[m[5]:], "\n")
			problem.Prose = prose(word, rest)
			return problem
		}
	}
	return nil
}

// nearMiss returns the problem with a comment that is almost a directive, and nil for
// prose that begins with "task:".
func nearMiss(c *ast.Comment) *Problem {
	m := nearly.FindStringSubmatch(c.Text)
	if m == nil {
		return nil
	}
	open, blanks, tool, colon, word := m[1], m[2], m[3], m[4], strings.ToLower(m[5])
	exact := open == "//" && blanks == "" && tool == "task"
	spaced := blanks != "" || colon != ":"
	problem := problemf(c.Slash, `looks like a directive but is not one; write "//task:%s"`, word)
	if _, known := table[word]; known {
		problem.Prose = spaced && prose(word, c.Text[len(m[0]):])
		return problem
	}
	hint := ""
	if colon == ":" {
		hint = closest(word, names())
	}
	switch {
	case hint != "":
		problem = problemf(c.Slash, `looks like a directive but is not one; write "//task:%s"`, hint)
		problem.Prose = spaced && prose(hint, c.Text[len(m[0]):])
		return problem
	case exact:
		problem = problemf(c.Slash, `looks like a directive but is not one; known: %s`, strings.Join(names(), ", "))
		problem.Prose = spaced && strings.TrimSpace(c.Text[len(m[0]):]) != ""
		return problem
	}
	return nil
}

// prose reports whether the text after a directive's name is a sentence: it is
// neither empty nor valid arguments of the directive.
func prose(name, rest string) bool {
	rest = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "*/"))
	if rest == "" {
		return false
	}
	d, problem := Find(&ast.Comment{Slash: 1, Text: "//task:" + name + " " + rest})
	if problem != nil || d == nil {
		return true
	}
	if table[name].source {
		_, value, _ := strings.Cut(rest, " ")
		_, err := parser.ParseExpr(value)
		return err != nil
	}
	b := &builder{fset: token.NewFileSet(), seen: map[string]*Directive{}}
	if p := b.split(d, table[name]); p != nil {
		table[name].apply(b, p)
	}
	return len(b.problems) > 0
}
