package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/taskgen/taskgen/examples/quickstart/tasks"
)

//go:embed testdata/*.txt
var documents embed.FS

// dirEnv is the variable with the store's folder. Child processes inherit it.
const dirEnv = "QUICKSTART_DIR"

// openStore makes the store's folder: a temporary one, or a lasting one if the broker
// outlives the program.
func openStore(store *tasks.Store, lasting bool) (err error) {
	switch {
	case store.Dir != "":
	case lasting:
		store.Dir = filepath.Join(os.TempDir(), "taskgen-quickstart")
	default:
		store.Dir, err = os.MkdirTemp("", "taskgen-quickstart-")
	}
	return errors.Join(err, os.MkdirAll(store.Dir, 0o700), os.Setenv(dirEnv, store.Dir))
}

// serveDocuments serves the embedded texts and returns their URLs. The port is free,
// or that of the previous run of the program if this one continues it.
func serveDocuments(store *tasks.Store) (urls []string, stop func(), err error) {
	addr := "127.0.0.1:0"
	portFile := filepath.Join(store.Dir, "addr")
	if b, err := os.ReadFile(portFile); err == nil {
		addr = string(b)
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, nil, fmt.Errorf("serve the documents: %w (remove %s to start anew)", err, store.Dir)
	}
	texts, err := fs.Sub(documents, "testdata")
	if err != nil {
		return nil, nil, err
	}
	names, err := fs.Glob(texts, "*.txt")
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		urls = append(urls, fmt.Sprintf("http://%s/%s", listener.Addr(), name))
	}
	server := &http.Server{Handler: http.FileServerFS(texts)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // ends with ErrServerClosed
	}()
	stop = func() {
		server.Close()
		<-done
	}
	return urls, stop, errors.Join(store.Begin(urls), os.WriteFile(portFile, []byte(listener.Addr().String()), 0o600))
}
