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
