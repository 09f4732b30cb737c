package access

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Local lets requests of this machine do everything, and refuses others. A page of another
// site that has its own name resolve to this machine is refused by the Host of its requests.
type Local struct{}

// forwarding are the headers of a proxy: its clients may be on any machine.
var forwarding = []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Via"}

const choose = "; choose who may do what by Config.Access, or by serve --http-auth"

var (
	errNotLocal  = errors.New("without access control only requests of this machine are served" + choose)
	errForwarded = errors.New("without access control no proxy may send requests" + choose)
	errHost      = errors.New("without access control the host of the address has to be localhost, 127.0.0.1 or [::1]" + choose)
)

var localUser = NewUser("local", Admin, nil, nil)

// Find returns the user local.
func (Local) Find(r *http.Request) (*User, error) {
	if !isLoopback(addressOf(r)) {
		return nil, errNotLocal
	}
	for _, name := range forwarding {
		if r.Header[name] != nil {
			return nil, errForwarded
		}
	}
	if !isLocalHost(r.Host) {
		return nil, errHost
	}
	return localUser, nil
}

// addressOf returns the address that sent a request, the zero one if it is none of IP.
func addressOf(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}

func isLoopback(a netip.Addr) bool { return a.IsValid() && a.IsLoopback() }

// isLocalHost reports whether the Host of a request is a name of this machine that no name
// server decides on.
func isLocalHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	} else if inner, ok := strings.CutPrefix(host, "["); ok {
		host = strings.TrimSuffix(inner, "]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && isLoopback(a.Unmap())
}
