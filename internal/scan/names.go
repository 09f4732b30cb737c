package scan

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/taskgen/taskgen/internal/naming"
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

// snakeCase returns the wire name of a Go name.
func snakeCase(name string) string {
	return strings.ToLower(strings.Join(naming.Words(name), "_"))
}

// fieldName returns the exported field for a parameter: url is URL, dataID is DataID.
// A letter without a capital form gets an X before it.
func fieldName(param string) string {
	if w := naming.Words(param); len(w) > 0 && strings.HasPrefix(param, w[0]) {
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
