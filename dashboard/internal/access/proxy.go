package access

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"
)

// Header finds the user by a header that a proxy sets. From a proxy on this machine it takes
// the header if the Host of the request is a name of this machine, or one of [GuardConfig.Hosts]:
// a browser here would send the same for the page of a site that has its own name resolve to
// this machine.
type Header struct {
	name    string
	as      *User
	proxies []netip.Prefix
}

// loopbacks are the addresses of this machine.
var loopbacks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// NewHeader returns a finder that gives all users that the header names the actions of one.
// proxies are addresses, or prefixes of them, from which it takes the header; none: those of
// this machine.
func NewHeader(name string, as *User, proxies ...string) (*Header, error) {
	if name == "" || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c) }) {
		return nil, fmt.Errorf("read access by header: no header is named %.64q", name)
	}
	h := &Header{name: textproto.CanonicalMIMEHeaderKey(name), as: as}
	for _, text := range proxies {
		p, err := netip.ParsePrefix(text)
		if a, notAddress := netip.ParseAddr(text); notAddress == nil {
			p, err = a.Unmap().Prefix(a.Unmap().BitLen())
		}
		if err != nil {
			return nil, fmt.Errorf("read access by header %s: proxy %.64q is no address, nor a prefix such as 10.0.0.0/8", name, text)
		}
		h.proxies = append(h.proxies, p.Masked())
	}
	if len(h.proxies) == 0 {
		h.proxies = loopbacks
	}
	return h, nil
}

var errNotProxy = errors.New("the request does not come from the proxy that says who sends it")

// Find returns the user of the header. A request that has the header twice, as one that a
// client sends and the proxy does not remove, is refused.
func (h *Header) Find(r *http.Request) (*User, error) {
	from := addressOf(r)
	trusted := false
	for _, p := range h.proxies {
		trusted = trusted || p.Contains(from)
	}
	if !trusted {
		return nil, errNotProxy
	}
	if isLoopback(from) && !isLocalHost(r.Host) && !isAmong(hostsOf(r.Context()), r.Host) {
		return nil, fmt.Errorf("the request is for host %.64q, and comes from this machine: if a proxy here serves this name, add it to Config.Hosts, or to serve --http-host", r.Host)
	}
	values := r.Header[h.name]
	switch {
	case len(values) > 1:
		return nil, fmt.Errorf("the request has the header %s twice", h.name)
	case len(values) == 0 || strings.TrimSpace(values[0]) == "":
		return nil, ErrNoUser
	case len(values[0]) > maxName:
		return nil, fmt.Errorf("the header %s names a user by more than %d bytes", h.name, maxName)
	}
	u := *h.as
	u.Name = strings.TrimSpace(values[0])
	return &u, nil
}

// isAmong reports whether the Host of a request is one of some names, on any port.
func isAmong(names []string, hostport string) bool {
	host := hostport
	if name, _, err := net.SplitHostPort(hostport); err == nil {
		host = name
	}
	return slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, host) })
}

// AnyOf finds the user by the first of some that knows one.
type AnyOf []Finder

// Find returns the user of the first that finds one. An error other than ErrNoUser ends it.
func (a AnyOf) Find(r *http.Request) (*User, error) {
	for _, f := range a {
		if u, err := f.Find(r); !errors.Is(err, ErrNoUser) {
			return u, err
		}
	}
	return nil, ErrNoUser
}

// Challenge returns those of all.
func (a AnyOf) Challenge() (all []string) {
	for _, f := range a {
		if c, ok := f.(Challenger); ok {
			all = append(all, c.Challenge()...)
		}
	}
	return all
}
