package dashboard

import (
	"fmt"
	"log/slog"
	"net/http"

	"github.com/taskgen/taskgen/dashboard/internal/access"
)

// Access finds who sends a request, and so what the request may do. User returns [ErrNoUser]
// if the request does not prove who sends it: the reply has status 401 then. After any other
// error the reply has status 403 and the text of the error. User may be called concurrently.
//
// An Access with a method Challenge() []string says how requests prove it: its values become
// the header WWW-Authenticate.
type Access interface {
	User(r *http.Request) (*User, error)
}

// AccessFunc is a function as an [Access].
type AccessFunc func(r *http.Request) (*User, error)

// User calls f.
func (f AccessFunc) User(r *http.Request) (*User, error) { return f(r) }

// ErrNoUser: the request does not say who sends it, or does not prove it.
var ErrNoUser = access.ErrNoUser

// User is who sends a request, and what the user may do: all that Role allows, and Actions.
type User struct {
	Name    string // for the log
	Role    Role   // the zero value allows nothing
	Actions []Action

	// Tasks are the names of those that the user may see and do things with. Such a user
	// may do nothing that concerns other tasks as well, as pausing a queue. Empty: all.
	Tasks []string

	// PerSecond is how many requests the user may send on average; twice as many may come
	// at once. Further ones get status 429. Defaults to 200.
	PerSecond int
}

// Role is a set of actions. Each role has those of the ones before it.
type Role int8

// The roles.
const (
	RoleNone    Role = iota // nothing but the Actions of the user
	RoleRead                // ActionRead
	RoleOperate             // also ActionQueue, ActionCancel, ActionRunNow, ActionRetry, ActionPause
	RoleAdmin               // all
)

// String returns the name of the role, such as "operate".
func (r Role) String() string { return access.Role(r).String() }

// Action is something that a request does.
type Action string

// The actions.
const (
	ActionRead     = Action(access.Read)     // show runs, queues, and all else there is
	ActionQueue    = Action(access.Queue)    // queue runs
	ActionCancel   = Action(access.Cancel)   // cancel runs
	ActionRunNow   = Action(access.RunNow)   // make delayed runs due
	ActionRetry    = Action(access.Retry)    // requeue dead letters
	ActionDelete   = Action(access.Delete)   // delete dead letters
	ActionPause    = Action(access.Pause)    // pause and resume queues
	ActionDisable  = Action(access.Disable)  // disable and enable tasks
	ActionSchedule = Action(access.Schedule) // make and end schedules
)

// Login is a user and the hash of the user's password or token.
type Login struct {
	User User
	Hash string // of HashPassword for Basic, of HashToken for Bearer
}

// HashPassword returns the bcrypt hash of a password of at most 72 bytes, for [Basic]. bcrypt
// is slow and salted: who reads the hash cannot find the password by trying many.
func HashPassword(password string) (string, error) { return access.HashPassword(password) }

// HashToken returns the SHA-256 hash of a token, for [Bearer]: "sha256:" and 64 digits. A token
// has to be random and long, such as of openssl rand -hex 32, so that nobody finds it by
// trying: then a fast hash is as good as a slow one, and each request is checked at once.
func HashToken(token string) string { return access.HashToken(token) }

// Basic returns an access by user name and password, as browsers ask for them. It is for
// HTTPS: whoever reads a request has the password.
func Basic(logins ...Login) (Access, error) {
	f, err := access.NewBasic(toLogins(logins)...)
	return inner(f, err)
}

// BasicFile returns an access by the users of a file and their passwords. A line is a user:
// its name and the bcrypt hash of its password, as htpasswd -nB NAME prints them, and behind
// these what the user may do:
//
//	ada:$2y$12$8jw5pBdN…     admin
//	ops:$2y$12$mX3wZK1d…     read cancel pause
//	shop:$2y$12$Jq0s7yVn…    queue task:mail.send task:shop.order rate:50
//
// These words are roles (read, operate, admin), actions, names of tasks behind "task:", and
// requests per second behind "rate:". Lines that are empty or begin with # are skipped.
//
// The file is read again once it has changed, within a second. If that fails the users stay as
// they are, and the error is logged.
func BasicFile(path string) (Access, error) {
	f, err := access.NewBasicFile(path)
	return inner(f, err)
}

// Bearer returns an access by tokens in the header Authorization, for programs. It is for
// HTTPS: whoever reads a request has the token.
func Bearer(logins ...Login) (Access, error) {
	f, err := access.NewBearer(toLogins(logins)...)
	return inner(f, err)
}

// BearerFile returns an access by the users of a file and their tokens. It is a file as that
// of [BasicFile], with the hashes of [HashToken], which also printf %s "$TOKEN" | sha256sum
// makes:
//
//	shop:sha256:2c26b46b68ffc68ff99b453c1d304134…    queue task:mail.send
func BearerFile(path string) (Access, error) {
	f, err := access.NewBearerFile(path)
	return inner(f, err)
}

// Header returns an access by a header with the name of the user, which a proxy sets that
// knows its users, such as oauth2-proxy. All have the role, actions and tasks of as.
//
// The header is taken from the proxies alone, which are addresses or prefixes such as
// "10.1.0.0/16", or those of this machine if none is given. The proxy has to remove the
// header from the requests that it gets. One on this machine sends them on for localhost, or
// for one of Config.Hosts.
func Header(name string, as User, proxies ...string) (Access, error) {
	f, err := access.NewHeader(name, as.inner(), proxies...)
	return inner(f, err)
}

// AnyOf returns an access by the first of several that knows the user: people by password,
// say, and programs by token. An error other than [ErrNoUser] ends the search.
func AnyOf(accesses ...Access) Access {
	var all access.AnyOf
	for _, a := range accesses {
		all = append(all, finderOf(a))
	}
	return found{all}
}

// found is a finder as an Access.
type found struct{ access.Finder }

// inner returns a finder as an Access, if there is one.
func inner[F access.Finder](f F, err error) (Access, error) {
	if err != nil {
		return nil, err
	}
	return found{f}, nil
}

// User finds the user.
func (f found) User(r *http.Request) (*User, error) {
	u, err := f.Find(r)
	if err != nil {
		return nil, err
	}
	return &User{Name: u.Name, Actions: toActions(u.Actions()), Tasks: u.Tasks(), PerSecond: u.PerSecond}, nil
}

// Challenge returns that of the finder.
func (f found) Challenge() []string {
	if c, ok := f.Finder.(access.Challenger); ok {
		return c.Challenge()
	}
	return nil
}

// finderOf returns the finder of a Config.Access.
func finderOf(a Access) access.Finder {
	switch a := a.(type) {
	case nil:
		return access.Local{}
	case found:
		return a.Finder
	}
	return finder{a}
}

// finder is an application's Access as a finder.
type finder struct{ Access }

// panicError is that an application's Access panicked. What with is for the log alone.
type panicError struct{ what string }

func (*panicError) Error() string { return "the program's own access control panicked" }

// LogValue returns the text for the log.
func (e *panicError) LogValue() slog.Value { return slog.StringValue(e.Error() + ": " + e.what) }

// Find asks the Access.
func (f finder) Find(r *http.Request) (user *access.User, err error) {
	defer func() {
		if p := recover(); p != nil {
			user, err = nil, &panicError{fmt.Sprintf("%.200s", fmt.Sprint(p))}
		}
	}()
	u, err := f.User(r)
	switch {
	case err != nil:
		return nil, err
	case u == nil:
		return nil, ErrNoUser
	}
	return u.inner(), nil
}

// Challenge returns that of the Access.
func (f finder) Challenge() []string {
	if c, ok := f.Access.(access.Challenger); ok {
		return c.Challenge()
	}
	return nil
}

// inner returns the user as internal/access has it.
func (u *User) inner() *access.User {
	var actions []access.Action
	for _, a := range u.Actions {
		actions = append(actions, access.Action(a))
	}
	user := access.NewUser(u.Name, access.Role(u.Role), actions, u.Tasks)
	user.PerSecond = u.PerSecond
	if user.PerSecond == 0 {
		user.PerSecond = access.DefaultRate
	}
	return user
}

func toActions(actions []access.Action) (all []Action) {
	for _, a := range actions {
		all = append(all, Action(a))
	}
	return all
}

func toLogins(logins []Login) (all []access.Login) {
	for _, l := range logins {
		all = append(all, access.Login{User: l.User.inner(), Hash: l.Hash})
	}
	return all
}
