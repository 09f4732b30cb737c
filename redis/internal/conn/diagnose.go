package conn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/internal/suggest"
)

// diagnoseURL returns why a URL does not parse. It quotes only names of known options,
// and words near them: anything else may be part of a password.
func diagnoseURL(raw string) error {
	known := []string{"prefix", "acknowledge", "durable", "addr", "client_name", "db", "master_name", "protocol", "skip_verify"}
	base, query, found := strings.Cut(raw, "?")
	options, err := url.ParseQuery(query)
	if !found || err != nil {
		return errURL
	}
	if _, err := parseDialer(base); err != nil {
		return errURL
	}
	scheme, _, _ := strings.Cut(base, ":")
	for _, name := range slices.Sorted(maps.Keys(options)) {
		_, err := parseDialer(base + "?" + url.Values{name: options[name]}.Encode())
		if err == nil {
			continue
		}
		near := suggest.Closest(name, known, 1)
		switch {
		case slices.Contains(known, name) && strings.Contains(err.Error(), "unexpected option"):
			return fmt.Errorf("parse broker url: option %s does not go with %s:; leave it out, or check the scheme", name, scheme)
		case slices.Contains(known, name):
			return fmt.Errorf("parse broker url: option %s cannot have the value it has; correct it, or leave it out", name)
		case near != "":
			return fmt.Errorf("parse broker url: unknown option %q; write %s", name, near)
		}
		return fmt.Errorf("parse broker url: one of its options is unknown, or has a value that it cannot have; "+
			"there are %s and some of go-redis", strings.Join(known, ", "))
	}
	return errURL
}

// advisedError is an error with the next step.
type advisedError struct {
	error
	advice string
}

func (a advisedError) Error() string {
	return strings.ReplaceAll(strings.TrimRight(a.error.Error(), ". "), "\n", "; ") + ": " + a.advice
}
func (a advisedError) Unwrap() error { return a.error }

// Diagnose returns the error of the first command with its likely cause and the next
// step. It omits replies of a server that is no Redis, as they may repeat what was
// sent.
func (d Dialer) Diagnose(ctx context.Context, err error, patience time.Duration) error {
	for _, known := range []struct{ symptom, advice string }{
		{"WRONGPASS", "check both in the URL (special characters are percent-encoded); with requirepass alone there is no user but default, so leave it out"},
		{"NOAUTH", "write both into the URL, redis://user:password@host, or redis://:password@host if the server knows no users"},
		{"DB index is out of range", "name a smaller number; ?prefix= keeps applications apart in one database"},
		{"cluster support disabled", "write " + strings.TrimSuffix(d.scheme, "+cluster") + ": instead of " + d.scheme + ":"},
		{"unknown command 'sentinel'", "name the host and port of a sentinel, often 26379, or write " + strings.TrimSuffix(d.scheme, "+sentinel") + ": instead of " + d.scheme + ":"},
		{"unreachable: redis: nil", "the sentinels know no master of that name: check master_name"},
		{"failed to verify certificate", "name a file with its authority in SSL_CERT_FILE, and the host as the certificate does; skip_verify=true checks neither"},
		{"LOADING", "it was started a while ago and still reads its files; try again once it has"},
		{"max number of clients", "others use all the connections that its maxclients allows; raise that, or stop some of them"},
		{"MASTERDOWN", "name the master, or try again once this replica has found it"},
		{"connection refused", "check the host and the port, and that the server runs"},
		{"no such host", "check the host"},
		{"connect: no such file", "check the path of the socket, and that the server runs"},
	} {
		if strings.Contains(err.Error(), known.symptom) {
			return advisedError{err, known.advice}
		}
	}
	if reply := goredis.Error(nil); errors.As(err, &reply) || ContextErr(ctx) != nil || d.addr == "" {
		return err
	}
	switch d.probe(ctx) {
	case plainRedis:
		if d.tls {
			return fmt.Errorf("ping server: %s does not speak TLS: write %s: instead of %s: in the URL", d.addr, strings.Replace(d.scheme, "rediss", "redis", 1), d.scheme)
		}
	case redisOverTLS:
		if !d.tls {
			return fmt.Errorf("ping server: %s speaks TLS: write %s: instead of %s: in the URL", d.addr, strings.Replace(d.scheme, "redis", "rediss", 1), d.scheme)
		}
	case noAnswer:
		return fmt.Errorf("ping server: %s accepts connections, but has not answered within %v: it is stopped, busy for as long, or no Redis; look at the server, and check the host and the port", d.addr, patience)
	default:
		return fmt.Errorf("ping server: nothing at %s answers as Redis does: check the host and the port, and that the server runs", d.addr)
	}
	return err
}

// protocol is what a server at an address speaks.
type protocol int8

const (
	otherProtocol protocol = iota // another, or nobody listens
	plainRedis                    // Redis
	redisOverTLS
	noAnswer // it accepts connections, and replies nothing
)

// probePatience bounds each of the two questions of a probe.
const probePatience = time.Second

// probe returns the protocol at the address. Its own connections carry no secret.
func (d Dialer) probe(ctx context.Context) protocol {
	ctx, cancel := context.WithTimeout(ctx, 2*probePatience)
	defer cancel()
	network := &net.Dialer{Timeout: probePatience}
	// The probe sends no secret, so the certificate does not matter.
	secure := &tls.Dialer{NetDialer: network, Config: &tls.Config{InsecureSkipVerify: true}}
	if conn, err := secure.DialContext(ctx, d.network, d.addr); err == nil {
		_ = conn.Close()
		return redisOverTLS
	}
	conn, err := network.DialContext(ctx, d.network, d.addr)
	if err != nil {
		return otherProtocol
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(probePatience))
	answer := make([]byte, 5)
	if _, err = io.WriteString(conn, "PING\r\n"); err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	if err == nil && (string(answer) == "+PONG" || answer[0] == '-') {
		return plainRedis
	}
	if late := net.Error(nil); errors.As(err, &late) && late.Timeout() {
		return noAnswer
	}
	return otherProtocol
}
