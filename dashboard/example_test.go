package dashboard_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/dashboard"
)

// A program mounts the dashboard below a path of its own, for who its login knows.
func ExampleNew() {
	b := memory.New()
	defer b.Close()
	access := dashboard.AccessFunc(func(r *http.Request) (*dashboard.User, error) {
		if r.Header.Get("Session") != "ada's" { // as the program finds it out
			return nil, dashboard.ErrNoUser
		}
		return &dashboard.User{Name: "ada", Role: dashboard.RoleOperate}, nil
	})
	h, err := dashboard.New(b, dashboard.Config{Access: access, Name: "shop"})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/tasks/", http.StripPrefix("/tasks", h))

	for _, session := range []string{"", "ada's"} {
		r := httptest.NewRequest(http.MethodGet, "/tasks/queues", nil)
		r.Header.Set("Session", session)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println(w.Code)
	}
	// Output:
	// 401
	// 200
}

// Tokens for programs beside passwords for people.
func ExampleAnyOf() {
	programs, err := dashboard.Bearer(dashboard.Login{
		User: dashboard.User{Name: "shop", Actions: []dashboard.Action{dashboard.ActionQueue}, Tasks: []string{"charge"}},
		Hash: dashboard.HashToken("7d1f0c5d8a…"), // of openssl rand -hex 32; keep the hash alone
	})
	if err != nil {
		log.Fatal(err)
	}
	people, err := dashboard.Header("X-Auth-Request-User", dashboard.User{Role: dashboard.RoleOperate}, "10.1.0.7")
	if err != nil {
		log.Fatal(err)
	}
	access := dashboard.AnyOf(programs, people)
	r := httptest.NewRequest(http.MethodPost, "/api/v1/tasks/charge/runs", nil)
	r.Header.Set("Authorization", "Bearer 7d1f0c5d8a…")
	user, err := access.User(r)
	fmt.Println(user.Name, user.Actions, user.Tasks, err)
	// Output: shop [queue] [charge] <nil>
}
