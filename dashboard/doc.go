// Package dashboard shows and operates a broker's runs in a browser, and by an HTTP API.
//
// A program with a command line of package taskapp has it: serve --http 127.0.0.1:8080. Others
// mount it where they like:
//
//	h, err := dashboard.New(b, dashboard.Config{Access: access}, tasks.Tasks())
//	mux.Handle("/tasks/", http.StripPrefix("/tasks", h))
//
// All its links are relative, so it works behind any prefix, whether a proxy strips it or not.
// Without an Access it serves requests of this machine alone.
//
// Pages update themselves by a stream of events, which ends with the context of its request: a
// server that stops should cancel these, see [net/http.Server.BaseContext].
package dashboard
