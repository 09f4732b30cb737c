// Package brokerurl compares URLs of brokers by what they give access to.
package brokerurl

import (
	"net/url"
	"strings"
)

// Shares reports whether a text is the URL of a broker, or one that gives access to
// it: a Redis URL with the broker's password, or without one to the same server and
// database. Options such as ?prefix= do not count.
func Shares(text, broker string) bool {
	if broker == "" || !strings.Contains(broker, "://") {
		return false
	}
	if text == broker {
		return true
	}
	a, b := parse(text), parse(broker)
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
		if host != "" && !strings.Contains(host[strings.LastIndexByte(host, ']')+1:], ":") {
			host += ":6379"
		}
		all[host] = true
	}
	return all
}
