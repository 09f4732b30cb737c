package taskgen_test

import (
	"bytes"
	"fmt"
	"go/scanner"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

// glossary lists the words that the repository does not use.
const glossary = "docs/glossary.md"

// othersNames are names of other modules, which have words that the repository does not use.
var othersNames = []string{"ElementsMatch"}

// TestWords reports the words that the glossary replaces, with the better one.
func TestWords(t *testing.T) {
	banned := readGlossary(t)
	out, err := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "*.go", "*.lua", "*.md").Output()
	require.NoError(t, err)
	checked := 0
	for path := range strings.FieldsSeq(string(out)) {
		if path == glossary || path == "words_test.go" || strings.HasSuffix(path, "_gen.go") {
			continue
		}
		src, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue // removed and not committed yet
		}
		require.NoError(t, err)
		checked++
		for _, found := range findWords(path, src, banned) {
			t.Error(found)
		}
	}
	require.Positive(t, checked)
}

// TestWordsAreFound keeps the check from finding nothing.
func TestWordsAreFound(t *testing.T) {
	banned := []bannedWord{
		{phrase: []string{"rouse"}, better: "wake", prose: true},
		{phrase: []string{"left", "out"}, better: "skipped"},
		{phrase: []string{"element"}, better: "stored run", dirs: []string{"redis"}},
	}
	for _, c := range []struct{ path, src, want string }{
		{"a.go", "package a\n\n// It roused a worker.\n", "a.go:3: roused: write wake"},
		{"a.go", "package a\n\nfunc (q *queue) rouseAll() {}\n", "a.go:3: rouse: write wake"},
		{"a.go", "package a\n\nvar leftOutNews = 1\n", "a.go:3: left out: write skipped"},
		{"a.go", "package a\n\n// A field is left out.\n", ""},
		{"a.go", "package a\n\nvar trousers, element = \"arouse\", 1\n", ""},
		{"redis/a.lua", "-- an element\nlocal elements = KEYS[1]\n", "redis/a.lua:2: elements: write stored run"},
		{"redis/element.go", "package redis\n", "redis/element.go:1: element: write stored run"},
		{"a.md", "Two lines.\nThe key `left_out`, and `rouse`.\n", "a.md:2: left out: write skipped\na.md:2: rouse: write wake"},
	} {
		require.Equal(t, c.want, strings.Join(findWords(c.path, []byte(c.src), banned), "\n"), c.src)
	}
	require.NotEmpty(t, readGlossary(t))
}

// bannedWord is a row of the glossary's last table.
type bannedWord struct {
	phrase []string // in lower case
	better string
	prose  bool     // banned in prose too, not only in names
	dirs   []string // where it is banned; empty: everywhere
}

// readGlossary parses the glossary's table of words not used. Its third column is "all",
// or "names", and may restrict the word to folders: "names in redis, broker".
func readGlossary(t *testing.T) []bannedWord {
	t.Helper()
	text, err := os.ReadFile(glossary)
	require.NoError(t, err)
	_, table, found := strings.Cut(string(text), "\n## Words not used\n")
	require.True(t, found, "%s has no section of words not used", glossary)
	var banned []bannedWord
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 || strings.HasPrefix(cells[0], "---") || strings.TrimSpace(cells[0]) == "not" {
			continue
		}
		where, dirs, _ := strings.Cut(strings.TrimSpace(cells[2]), " in ")
		require.Contains(t, []string{"all", "names"}, where, line)
		for word := range strings.SplitSeq(cells[0], ",") {
			banned = append(banned, bannedWord{
				phrase: nameParts(word), better: strings.TrimSpace(cells[1]),
				prose: where == "all", dirs: strings.FieldsFunc(dirs, func(r rune) bool { return r == ',' || r == ' ' }),
			})
		}
	}
	require.NotEmpty(t, banned)
	return banned
}

// span is a piece of a file: a name, or prose.
type span struct {
	line  int
	text  string
	prose bool
}

// findWords returns the banned words in a file, each with its line and the better word.
func findWords(path string, src []byte, banned []bannedWord) []string {
	var found []string
	base := filepath.Base(path)
	for _, s := range append([]span{{1, strings.TrimSuffix(base, filepath.Ext(base)), false}}, spans(path, src)...) {
		parts := nameParts(s.text)
		for _, w := range banned {
			if s.prose && !w.prose || len(w.dirs) > 0 && !below(path, w.dirs) {
				continue
			}
			for i := range parts {
				if end := i + len(w.phrase); end <= len(parts) && isPhrase(parts[i:end], w.phrase) {
					found = append(found, fmt.Sprintf("%s:%d: %s: write %s", path, s.line, strings.Join(parts[i:end], " "), w.better))
				}
			}
		}
	}
	return slices.Compact(found)
}

// isPhrase reports whether words are the phrase, whose last word may be inflected.
func isPhrase(words, phrase []string) bool {
	last := len(phrase) - 1
	for i, word := range words[:last] {
		if word != phrase[i] {
			return false
		}
	}
	stem, word := phrase[last], words[last]
	endings := []string{"", "s", "es", "ed", "er", "ers", "ing"}
	switch stem[len(stem)-1] {
	case 'e':
		stem, endings = stem[:len(stem)-1], []string{"e", "es", "ed", "er", "ers", "ing"}
	case 'y':
		stem, endings = stem[:len(stem)-1], []string{"y", "ies", "ied", "ying"}
	}
	ending, ok := strings.CutPrefix(word, stem)
	return ok && slices.Contains(endings, ending)
}

// nameParts splits text into words in lower case, and names where their words begin.
func nameParts(text string) []string {
	var parts []string
	start, afterUpper := -1, false // of the current word
	end := func(i int) {
		if start >= 0 {
			parts = append(parts, strings.ToLower(text[start:i]))
		}
		start = -1
	}
	for i, r := range text {
		upper := unicode.IsUpper(r)
		inWord := upper || unicode.IsLower(r) || unicode.IsDigit(r)
		if !inWord || upper && !afterUpper {
			end(i)
		}
		if inWord && start < 0 {
			start = i
		}
		afterUpper = upper
	}
	end(len(text))
	return parts
}

// spans splits a file into names and prose.
func spans(path string, src []byte) []span {
	switch filepath.Ext(path) {
	case ".go":
		return goSpans(src)
	case ".lua":
		return luaSpans(src)
	}
	var all []span
	for i, line := range bytes.Split(src, []byte("\n")) {
		for j, part := range strings.Split(string(line), "`") {
			all = append(all, span{i + 1, part, j%2 == 0 || strings.Contains(part, " ")})
		}
	}
	return all
}

func goSpans(src []byte) []span {
	var all []span
	file := token.NewFileSet().AddFile("", -1, len(src))
	var s scanner.Scanner
	s.Init(file, src, nil, scanner.ScanComments)
	for {
		pos, tok, text := s.Scan()
		switch tok {
		case token.EOF:
			return all
		case token.IDENT:
			if slices.Contains(othersNames, text) {
				continue
			}
			all = append(all, span{file.Line(pos), text, false})
		case token.STRING, token.COMMENT:
			for i, line := range strings.Split(text, "\n") {
				all = append(all, span{file.Line(pos) + i, line, tok == token.COMMENT || strings.ContainsAny(line, " \t")})
			}
		}
	}
}

func luaSpans(src []byte) []span {
	var all []span
	for i, line := range strings.Split(string(src), "\n") {
		code, comment, _ := strings.Cut(line, "--")
		all = append(all, span{i + 1, code, false}, span{i + 1, comment, true})
	}
	return all
}

// below reports whether path is one of the entries or below one.
func below(path string, entries []string) bool {
	return slices.ContainsFunc(entries, func(entry string) bool { return path == entry || strings.HasPrefix(path, entry+"/") })
}
