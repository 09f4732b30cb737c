package scan

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// initialisms are the words that Go writes in capitals: those of staticcheck's
// ST1003. It is read-only.
var initialisms = map[string]bool{
	"ACL": true, "API": true, "ASCII": true, "CPU": true, "CSS": true, "DNS": true, "EOF": true,
	"GUID": true, "HTML": true, "HTTP": true, "HTTPS": true, "ID": true, "IP": true, "JSON": true,
	"QPS": true, "RAM": true, "RPC": true, "SLA": true, "SMTP": true, "SQL": true, "SSH": true,
	"TCP": true, "TLS": true, "TTL": true, "UDP": true, "UI": true, "GID": true, "UID": true,
	"UUID": true, "URI": true, "URL": true, "UTF8": true, "VM": true, "XML": true, "XMPP": true,
	"XSRF": true, "XSS": true, "SIP": true, "RTP": true, "AMQP": true, "DB": true, "TS": true,
}

// words splits a Go name into its words: HTTPFetch is HTTP and Fetch, FetchURLs2 is
// Fetch and URLs2. Underscores separate words and are dropped.
func words(name string) []string {
	var all []string
	for _, part := range strings.Split(name, "_") {
		r := []rune(part)
		start := 0
		for i := 1; i < len(r); i++ {
			if unicode.IsUpper(r[i]) && beginsWord(r, i) {
				all = append(all, string(r[start:i]))
				start = i
			}
		}
		if start < len(r) {
			all = append(all, string(r[start:]))
		}
	}
	return all
}

// beginsWord reports whether the capital r[i] begins a word: after a lower-case
// letter or digit always; after another capital only if a lower-case letter follows,
// other than the plural s of an initialism.
func beginsWord(r []rune, i int) bool {
	lower := func(j int) bool { return j < len(r) && unicode.IsLower(r[j]) }
	if !unicode.IsUpper(r[i-1]) {
		return true
	}
	plural := i+1 < len(r) && r[i+1] == 's' && !lower(i+2)
	return lower(i+1) && !plural
}

// snakeCase returns the wire name of a Go name.
func snakeCase(name string) string {
	return strings.ToLower(strings.Join(words(name), "_"))
}

// fieldName returns the exported field for a parameter: url is URL, dataID is DataID.
// A letter without a capital form gets an X before it.
func fieldName(param string) string {
	if w := words(param); len(w) > 0 && strings.HasPrefix(param, w[0]) {
		if upper := strings.ToUpper(w[0]); initialisms[upper] {
			return upper + param[len(w[0]):]
		}
	}
	name := upperFirst(param)
	if r, _ := utf8.DecodeRuneInString(name); !unicode.IsUpper(r) {
		return "X" + name
	}
	return name
}

func upperFirst(name string) string {
	r, size := utf8.DecodeRuneInString(name)
	return string(unicode.ToUpper(r)) + name[size:]
}

// lowerFirst returns the unexported form of a name: HTTPFetch is httpFetch.
func lowerFirst(name string) string {
	if w := words(name); len(w) > 0 && strings.HasPrefix(name, w[0]) {
		return strings.ToLower(w[0]) + name[len(w[0]):]
	}
	return name
}
