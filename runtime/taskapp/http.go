package taskapp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/taskgen/taskgen/dashboard"
	"github.com/taskgen/taskgen/internal/text"
)

const (
	closeTimeout = 5 * time.Second // for which requests may go on after serve has stopped
	cancelAfter  = time.Second     // of that, after which their contexts end: streams would go on
)

// checkHTTP refuses an address that is none, and one that other machines reach unless
// --http-auth says who may ask it.
func (o *serveOptions) checkHTTP(own dashboard.Access) error {
	address, auth := o.http, &o.auth
	auth.choose(own)
	if address != "" {
		_, port, err := net.SplitHostPort(address)
		if err == nil {
			_, err = net.LookupPort("tcp", port)
		}
		if err != nil {
			return usagef("serve", "invalid value %q for flag --http: %v", address, err)
		}
	}
	switch {
	case address == "" && (auth.probes || len(auth.byFlags) > 0):
		return usagef("serve", "--http-auth needs --http")
	case address == "" && o.prefix != "":
		return usagef("serve", "--http-prefix needs --http")
	case address == "" && len(o.hosts) > 0:
		return usagef("serve", "--http-host needs --http")
	case o.prefix != "" && (!strings.HasPrefix(o.prefix, "/") || path.Clean(o.prefix) != o.prefix):
		return usagef("serve", "invalid value %q for flag --http-prefix: it is a path such as /tasks", o.prefix)
	case auth.probes || auth.chosen || address == "" || isLoopback(address):
		return nil
	}
	return usagef("serve", "--http %s can be reached from other machines: say who may ask by --http-auth basic:FILE, bearer:FILE or header:NAME,ROLE, or give --http-auth probes to serve metrics, probes and /scale alone, to all of them, or an address such as 127.0.0.1:8080", text.Printable(address))
}

// isLoopback reports whether only this machine reaches an address.
func isLoopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	host, _, _ = strings.Cut(host, "%") // a zone
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// httpServer is the server of serve --http. Of none, nil, each method does nothing.
type httpServer struct {
	listener net.Listener
	server   *http.Server  // nil: not started
	cancel   func()        // ends the contexts of all requests
	ended    chan struct{} // closed when Serve has returned
	err      error         // of Serve
}

// listen opens the address of --http, so that others cannot have it. Nothing is served yet.
func listen(ctx context.Context, address string) (*httpServer, error) {
	if address == "" {
		return nil, nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s: another process has this address; choose one by --http, such as 127.0.0.1:0 for any port that is free", address)
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return &httpServer{listener: listener, ended: make(chan struct{})}, nil
}

// address returns the address with the port that was opened, empty for none.
func (h *httpServer) address() string {
	if h == nil {
		return ""
	}
	return h.listener.Addr().String()
}

// start serves until close is called.
func (h *httpServer) start(handler http.Handler, logger *slog.Logger) {
	if h == nil {
		return
	}
	base, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	h.server = &http.Server{
		BaseContext:       func(net.Listener) context.Context { return base },
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	go func() {
		defer close(h.ended)
		h.err = h.server.Serve(h.listener)
	}()
}

// wait blocks until ctx ends, or the server by an error.
func (h *httpServer) wait(ctx context.Context) error {
	if h == nil {
		<-ctx.Done()
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-h.ended:
		return fmt.Errorf("serve HTTP on %s: %w", h.address(), h.err)
	}
}

// close waits for the requests that go on, and closes the listener. A second call does
// nothing.
func (h *httpServer) close(logger *slog.Logger) {
	if h == nil {
		return
	}
	if h.server == nil {
		_ = h.listener.Close()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	defer h.cancel()
	defer time.AfterFunc(cancelAfter, h.cancel).Stop()
	if err := h.server.Shutdown(ctx); err != nil {
		logger.Debug("requests did not end, closing their connections", "error", err)
		_ = h.server.Close()
	}
	<-h.ended
}
