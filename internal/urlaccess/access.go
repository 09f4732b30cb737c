// Package urlaccess compares URLs of brokers by what they give access to.
package urlaccess

import (
	"net/url"
	"slices"
	"strings"
)

// leastPassword is how long a password is at least that is looked for in any text: a
// shorter one would be found by chance.
const leastPassword = 4

// Shares reports whether a text is the URL of a broker, or gives access to it. If the
// broker's URL has a password, that is a text which names the system and has the password
// in it. Otherwise it is a URL of the same server and database. Options such as ?prefix=
// do not count. Redis has several schemes; any other system has the one of the broker.
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
	if a == nil || b == nil || !sameSystem(a, b) {
		return false
	}
	password, ok := b.User.Password()
	other, also := a.User.Password()
	if ok && password != "" || also && other != "" {
		return password == other
	}
	if !isRedis(b) {
		return strings.EqualFold(a.Host, b.Host) && a.Path == b.Path
	}
	return database(a) == database(b) && meet(a, b)
}

// mentions reports whether a text names the broker's system and has the broker's password
// in it, wherever and however it is written: among options, in JSON, not escaped.
func mentions(text string, broker *url.URL) bool {
	password, _ := broker.User.Password()
	if password == "" {
		password = broker.Query().Get("password")
	}
	if len(password) < leastPassword || !namesSystem(text, broker) {
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

// namesSystem reports whether a text names Redis, or for another broker its scheme or host.
func namesSystem(text string, broker *url.URL) bool {
	names := []string{"redis", "valkey", "unix:"}
	if !isRedis(broker) {
		names = []string{broker.Scheme, strings.ToLower(broker.Hostname())}
	}
	lower := strings.ToLower(text)
	return slices.ContainsFunc(names, func(name string) bool { return name != "" && strings.Contains(lower, name) })
}

// parse returns a URL with its scheme in lower case, which url.Parse sees to. It returns
// nil for a text that is none.
func parse(text string) *url.URL {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil {
		return nil
	}
	return u
}

func isRedis(u *url.URL) bool {
	return u.Scheme == "unix" || strings.HasPrefix(u.Scheme, "redis") || strings.HasPrefix(u.Scheme, "valkey")
}

func sameSystem(a, b *url.URL) bool { return a.Scheme == b.Scheme || isRedis(a) && isRedis(b) }

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
