package taskapp

import (
	"errors"
	"fmt"
	"strings"

	"github.com/taskgen/taskgen/dashboard"
)

// authProbes serves /metrics and /scale to all who ask.
const authProbes = "probes"

// httpAuths are the forms of --http-auth.
var httpAuths = []string{authProbes, "basic:", "bearer:", "header:"}

// httpAccess is who may do what over HTTP.
type httpAccess struct {
	probes  bool             // /metrics and /scale are for all who ask
	access  dashboard.Access // nil: this machine alone
	chosen  bool             // access is one that other machines can have, or App.Access
	byFlags []dashboard.Access
}

// add adds a value of --http-auth.
func (h *httpAccess) add(text string) error {
	kind, rest, _ := strings.Cut(text, ":")
	var a dashboard.Access
	var err error
	switch {
	case text == authProbes:
		h.probes = true
		return nil
	case kind == "basic" && rest != "":
		a, err = dashboard.BasicFile(rest)
	case kind == "bearer" && rest != "":
		a, err = dashboard.BearerFile(rest)
	case kind == "header" && rest != "":
		a, err = parseHeaderAuth(rest)
	default:
		return errors.New("known are probes, basic:FILE, bearer:FILE and header:NAME,ROLE[,PROXY…]")
	}
	if err != nil {
		return err
	}
	h.byFlags = append(h.byFlags, a)
	return nil
}

// proxyRoles are the roles that users of a proxy can have.
var proxyRoles = map[string]dashboard.Role{"read": dashboard.RoleRead, "operate": dashboard.RoleOperate, "admin": dashboard.RoleAdmin}

// parseHeaderAuth reads NAME,ROLE[,PROXY…].
func parseHeaderAuth(text string) (dashboard.Access, error) {
	parts := strings.Split(text, ",")
	if len(parts) < 2 {
		return nil, fmt.Errorf("the header is followed by no role; write header:%s,read or ,operate or ,admin", parts[0])
	}
	role, ok := proxyRoles[parts[1]]
	if !ok {
		return nil, fmt.Errorf("no role is named %.64q; known are read, operate and admin", parts[1])
	}
	return dashboard.Header(parts[0], dashboard.User{Role: role}, parts[2:]...)
}

// choose decides who may do what: those that flags name or, without such flags, those that
// the application does.
func (h *httpAccess) choose(own dashboard.Access) {
	switch {
	case len(h.byFlags) == 1:
		h.access, h.chosen = h.byFlags[0], true
	case len(h.byFlags) > 1:
		h.access, h.chosen = dashboard.AnyOf(h.byFlags...), true
	case own != nil:
		h.access, h.chosen = own, true
	}
}
