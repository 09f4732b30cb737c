package redis

import (
	"net/url"
	"strconv"
)

// Server returns the host name or address of the server and its port, for middleware that
// observes runs: see taskrt.BrokerServer. A unix socket is a path and port 0. Of a cluster
// it is the first server that the URL or the client names. The address is empty for
// servers that sentinels know: it changes.
func (b *Broker) Server() (address string, port int) {
	u, err := url.Parse(b.url)
	if err != nil {
		return "", 0
	}
	switch u.Scheme {
	case "unix":
		return u.Path, 0
	case "redis+sentinel":
		return "", 0
	case "redis+cluster":
		if addr := u.Query()["addr"]; u.Port() == "" && len(addr) > 0 {
			u.Host = addr[0] // the URL of a client has no host
		}
	}
	if u.Host == "FailoverClient" { // as go-redis names it
		return "", 0
	}
	const defaultPort = 6379
	port, err = strconv.Atoi(u.Port())
	if err != nil {
		port = defaultPort
	}
	return u.Hostname(), port
}
