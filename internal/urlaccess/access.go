// Package urlaccess compares URLs of brokers by what they give access to.
package urlaccess

import (
	"net/url"
	"strings"
)

// leastPassword is how long a password is at least that is looked for in any text: a
// shorter one would be found by chance.
const leastPassword = 4

// Shares reports whether a text is the URL of a broker, or gives access to it: what
// speaks of Redis and has the broker's password in it, or a Redis URL to the same
// server and database if there is none. Options such as ?prefix= do not count.
func Shares(text, broker string) bool {
	if broker == "" || !strings.Contains(broker, "://") {
		return false
	}
	if text == broker {
		return true
	}
	a, b := parse(text), parse(broker)
	if b != nil && mentions(text, b) {
		return true
	}
	if a == nil || b == nil {
		return false
	}
	password, ok := b.User.Password()
	other, also := a.User.Password()
	if ok && password != "" || also && other != "" {
		return password == other
	}
	return database(a) == database(b) && meet(a, b)
}

// mentions reports whether a text speaks of Redis and has the broker's password in it,
// wherever and however it is written: among options, in JSON, not escaped.
func mentions(text string, broker *url.URL) bool {
	password, _ := broker.User.Password()
	if password == "" {
		password = broker.Query().Get("password")
	}
	lower := strings.ToLower(text)
	if len(password) < leastPassword || !strings.Contains(lower, "redis") && !strings.Contains(lower, "valkey") && !strings.Contains(lower, "unix:") {
		return false
	}
	_, escaped, _ := strings.Cut(url.UserPassword("", password).String(), ":")
	for _, form := range []string{password, escaped, url.QueryEscape(password), url.PathEscape(password)} {
		if strings.Contains(text, form) {
			return true
		}
	}
	return false
}

// parse returns a URL of Redis, nil of any other text.
func parse(text string) *url.URL {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil {
		return nil
	}
	u.Scheme = strings.ToLower(u.Scheme)
	if u.Scheme != "unix" && !strings.HasPrefix(u.Scheme, "redis") && !strings.HasPrefix(u.Scheme, "valkey") {
		return nil
	}
	return u
}

// database returns what names the database, and of a socket the socket too.
func database(u *url.URL) string {
	name := strings.Trim(u.Path, "/")
	if u.Scheme == "unix" {
		return name + "?" + orZero(u.Query().Get("db"))
	}
	if name == "" {
		name = u.Query().Get("db")
	}
	return orZero(name)
}

func orZero(name string) string {
	if name == "" {
		return "0"
	}
	return name
}

// meet reports whether two URLs name a server in common.
func meet(a, b *url.URL) bool {
	theirs := servers(b)
	for server := range servers(a) {
		if theirs[server] {
			return true
		}
	}
	return false
}

// servers returns the servers that a URL names, each with its port.
func servers(u *url.URL) map[string]bool {
	all := make(map[string]bool)
	for _, host := range append(u.Query()["addr"], strings.Split(u.Host, ",")...) {
		host = strings.ToLower(host)
		for _, here := range []string{"localhost", "[::1]"} {
			if rest, ok := strings.CutPrefix(host, here); ok && (rest == "" || rest[0] == ':') {
				host = "127.0.0.1" + rest
			}
		}
		if host != "" && !strings.Contains(host[strings.LastIndexByte(host, ']')+1:], ":") {
			host += ":6379"
		}
		all[host] = true
	}
	return all
}
