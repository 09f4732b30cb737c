package access

import (
	"bytes"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"
)

func TestRolesAndActions(t *testing.T) {
	want := map[Role]string{
		None: "", Reader: "read", Operator: "read, queue, cancel, run-now, retry, pause",
		Admin: "read, queue, cancel, run-now, retry, pause, delete, disable, schedule", 9: "", -1: "",
	}
	for role, actions := range want {
		require.Equal(t, actions, joined(NewUser("u", role, nil, nil).Actions()), role)
	}
	u := NewUser("u", Reader, []Action{Cancel}, []string{"a"}).withTasks(func(task string) []string { return []string{task, "old-" + task} })
	require.True(t, u.Allows(Cancel, "a"))
	require.True(t, u.Allows(Cancel, "old-a"))
	require.False(t, u.Allows(Cancel, "b"))
	require.False(t, u.Allows(Cancel, ""), "a user restricted to tasks does what concerns all")
	require.True(t, u.Has(Cancel))
	require.False(t, u.Has(Delete))
	require.False(t, (*User)(nil).Allows(Read, ""))
	require.ErrorContains(t, Check(WithUser(t.Context(), u), Delete, "a"), `user "u" lacks the action "delete" for task "a"`)
	require.Error(t, Check(t.Context(), Read, ""))
	require.NoError(t, Check(WithUser(t.Context(), u), Cancel, "a"))
}

func quickHash(t *testing.T, password string) string {
	b, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	require.NoError(t, err)
	return string(b)
}

func TestBasic(t *testing.T) {
	b, err := NewBasic(Login{NewUser("ada", Admin, nil, nil), quickHash(t, "right")}, Login{NewUser("bob", Reader, nil, nil), quickHash(t, "other")})
	require.NoError(t, err)
	h, log := guarded(b)
	for range 2 { // the second time from memory
		for _, c := range []struct {
			name, password string
			want           int
		}{{"ada", "right", 200}, {"ada", "other", 401}, {"ada", "", 401}, {"eve", "right", 401}, {"bob", "other", 200}, {"bob", "right", 401}, {"", "", 401}, {"ada", "right" + string(make([]byte, 80)), 401}} {
			r := local("GET", "/")
			r.SetBasicAuth(c.name, c.password)
			w := do(h, r)
			require.Equal(t, c.want, w.Code, "%s %s", c.name, c.password)
			if c.want == 401 {
				require.Contains(t, w.Header().Get("WWW-Authenticate"), "Basic realm=")
			}
		}
	}
	require.Equal(t, 401, do(h, local("GET", "/")).Code)
	require.NotContains(t, log.String(), "right")
	require.NotContains(t, log.String(), "other")

	_, err = NewBasic(Login{NewUser("ada", Admin, nil, nil), HashToken("x")})
	require.ErrorContains(t, err, "htpasswd")
	_, err = NewBasic(Login{NewUser("ada", Admin, nil, nil), "$2y$20$" + quickHash(t, "x")[7:]})
	require.ErrorContains(t, err, "cost 20")
	_, err = NewBasic(Login{NewUser("a", Admin, nil, nil), quickHash(t, "x")}, Login{NewUser("a", None, nil, nil), quickHash(t, "y")})
	require.ErrorContains(t, err, "two are named")
}

func TestPasswordsOfHtpasswd(t *testing.T) {
	b, err := NewBasic(Login{NewUser("ada", Admin, nil, nil), "$2y$" + quickHash(t, "right")[4:]}) // as Apache calls the version
	require.NoError(t, err)
	r := local("GET", "/")
	r.SetBasicAuth("ada", "right")
	u, err := b.Find(r)
	require.NoError(t, err)
	require.Equal(t, "ada", u.Name)
}

func TestBearer(t *testing.T) {
	b, err := NewBearer(Login{NewUser("shop", None, []Action{Queue}, nil), HashToken("token-1")}, Login{NewUser("ci", Reader, nil, nil), HashToken("token-2")})
	require.NoError(t, err)
	h, log := guarded(b)
	for authorization, want := range map[string]int{
		"Bearer token-1": 200, "bearer token-2": 200, "Bearer  token-2": 200,
		"Bearer token-3": 401, "Bearer": 401, "Bearer ": 401, "Basic token-1": 401, "token-1": 401, "": 401,
		"Bearer " + HashToken("token-1"): 401,
	} {
		w := do(h, local("POST", "/", "Authorization", authorization))
		require.Equal(t, want, w.Code, authorization)
		require.Equal(t, want == 401, w.Header().Get("WWW-Authenticate") != "", authorization)
		require.Equal(t, want == 401 && authorization != "", strings.Contains(w.Body.String(), "no user has this token"), authorization)
	}
	require.Contains(t, log.String(), "user=shop")
	require.NotContains(t, log.String(), "token-")
	require.NotContains(t, log.String(), "sha256")
	_, err = NewBearer(Login{NewUser("a", Admin, nil, nil), "sha256:12"})
	require.ErrorContains(t, err, "sha256sum")
}

func TestHeader(t *testing.T) {
	f, err := NewHeader("remote-user", NewUser("", Operator, nil, nil), "10.1.0.0/16", "192.0.2.7")
	require.NoError(t, err)
	h, _ := guarded(f)
	for _, c := range []struct {
		remote string
		users  []string
		want   int
	}{
		{"10.1.2.3:4", []string{"ada"}, 200}, {"192.0.2.7:4", []string{"ada"}, 200}, {"[::ffff:10.1.2.3]:4", []string{"ada"}, 200},
		{"10.2.2.3:4", []string{"ada"}, 403}, {"127.0.0.1:4", []string{"ada"}, 403}, {"@", []string{"ada"}, 403},
		{"10.1.2.3:4", nil, 401}, {"10.1.2.3:4", []string{" "}, 401}, {"10.1.2.3:4", []string{"eve", "ada"}, 403},
	} {
		r := local("POST", "/")
		r.RemoteAddr, r.Header["Remote-User"] = c.remote, c.users
		require.Equal(t, c.want, do(h, r).Code, c)
	}
	for _, name := range []string{"", "a b", "a:b"} {
		_, err = NewHeader(name, NewUser("", Reader, nil, nil))
		require.ErrorContains(t, err, "no header is named")
	}
	_, err = NewHeader("a", NewUser("", Reader, nil, nil), "evil.example")
	require.ErrorContains(t, err, "evil.example")
}

// TestHeaderOfAPageThatResolvesHere has a browser of this machine send the header.
func TestHeaderOfAPageThatResolvesHere(t *testing.T) {
	f, err := NewHeader("remote-user", NewUser("", Operator, nil, nil), "127.0.0.1", "10.1.0.0/16")
	require.NoError(t, err)
	ask := func(h http.Handler, remote, host string) int {
		r := local("POST", "/")
		r.RemoteAddr, r.Host, r.Header["Remote-User"] = remote, host, []string{"ada"}
		return do(h, r).Code
	}
	some, _ := guarded(AnyOf{f})
	named := NewGuard(GuardConfig{Finder: AnyOf{f}, Logger: slog.New(slog.DiscardHandler), Hosts: []string{"tasks.example.com"}}).Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, host := range []string{"localhost:8080", "127.0.0.1:8080", "[::1]:8080", "localhost"} {
		require.Equal(t, 200, ask(some, "127.0.0.1:4", host), host)
	}
	for _, host := range []string{"evil.example", "evil.example:8080", "localhost.evil.example", "", "tasks.example.com"} {
		require.Equal(t, 403, ask(some, "127.0.0.1:4", host), host)
	}
	require.Equal(t, 200, ask(some, "10.1.0.7:4", "tasks.example.com"), "the proxy is another machine")
	require.Equal(t, 200, ask(named, "127.0.0.1:4", "Tasks.example.com:443"))
	require.Equal(t, 403, ask(named, "127.0.0.1:4", "evil.example"))
}

func TestAnyOf(t *testing.T) {
	basic, err := NewBasic(Login{NewUser("ada", Admin, nil, nil), quickHash(t, "right")})
	require.NoError(t, err)
	bearer, err := NewBearer(Login{NewUser("ci", Reader, nil, nil), HashToken("token")})
	require.NoError(t, err)
	h, _ := guarded(AnyOf{basic, bearer})
	r := local("GET", "/")
	r.SetBasicAuth("ada", "right")
	require.Equal(t, "ada", do(h, r).Body.String())
	require.Equal(t, "ci", do(h, local("GET", "/", "Authorization", "Bearer token")).Body.String())
	w := do(h, local("GET", "/"))
	require.Equal(t, 401, w.Code)
	require.Len(t, w.Header()["Www-Authenticate"], 2)
}

func TestFileOfUsers(t *testing.T) {
	users, err := parseLogins([]byte("# people\n\nada:H1 admin\n bob:H2\tread cancel task:a task:b rate:7 \n"))
	require.NoError(t, err)
	require.Len(t, users, 2)
	require.Equal(t, Login{&User{Name: "bob", PerSecond: 7, actions: []Action{Read, Cancel}, tasks: []string{"a", "b"}}, "H2"}, users[1])
	require.Equal(t, DefaultRate, users[0].User.PerSecond)
	for text, want := range map[string]string{
		"":                      "names no user",
		"# none":                "names no user",
		"ada admin":             "line 1: it does not begin with NAME:HASH",
		":H admin":              "NAME:HASH",
		"ada:SECRET":            `line 1: user "ada" may do nothing`,
		"ada:SECRET task:a":     "may do nothing",
		"ada:S admin SECRET":    "word 3 is no role",
		"ada:S admin rate:0":    "word 3 is no rate",
		"ada:S admin rate:many": "no rate",
	} {
		_, err := parseLogins([]byte(text))
		require.ErrorContains(t, err, want, text)
		require.NotContains(t, err.Error(), "SECRET", text)
	}
}

func TestAFileIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	write := func(text string) {
		next := path + ".next"
		require.NoError(t, os.WriteFile(next, []byte(text), 0o600))
		require.NoError(t, os.Rename(next, path)) // as editors and mounted secrets do
	}
	write("a:" + HashToken("one") + " read\n")
	f, err := NewBearerFile(path)
	require.NoError(t, err)
	h, log := guarded(f)
	f.SetLogger(slog.New(slog.NewTextHandler(log, nil)))
	ask := func(token string) int {
		f.mu.Lock()
		f.looked = time.Time{} // a second later
		f.mu.Unlock()
		return do(h, local("GET", "/", "Authorization", "Bearer "+token)).Code
	}
	require.Equal(t, []int{200, 401}, []int{ask("one"), ask("two")})
	write("a:" + HashToken("two") + " read\n")
	require.Equal(t, []int{401, 200}, []int{ask("one"), ask("two")})
	write("a:broken admin\n")
	require.Equal(t, []int{401, 200}, []int{ask("one"), ask("two")}, "a broken file lets nobody in, or all")
	require.Contains(t, log.String(), "cannot be read")
	require.NotContains(t, log.String(), "broken admin")
	require.NoError(t, os.Remove(path))
	require.Equal(t, 200, ask("two"))
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("no such file")))
	write("a:" + HashToken("one") + " read\n")
	require.Equal(t, []int{200, 401}, []int{ask("one"), ask("two")})
	_, err = NewBasicFile(path)
	require.ErrorContains(t, err, "bcrypt")
	_, err = NewBearerFile(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Equal(t, http.StatusUnauthorized, ask("two"))
}
