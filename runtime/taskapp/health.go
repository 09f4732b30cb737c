package taskapp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/text"
)

// healthTimeout is how long health waits for a reply.
const healthTimeout = 3 * time.Second

// healthView is the JSON of health.
type healthView struct {
	Healthy bool   `json:"healthy"`
	Checked string `json:"checked"`
}

func (c *commandLine) healthCommand() *cobra.Command {
	o := &controlOptions{}
	var address string
	live := false
	cmd := c.command(manual{
		use: "health", short: "tell by the exit status whether serve works, for a container's probe",
		long: `Ends with status 0 if the serve works that has the address of --http: if it is
ready, or with --live if its loops turn. Without --http it asks the broker, and
ends with status 0 if a consumer or scheduler of this host has told the broker
lately that it is up.`,
		example: "health --http :8080",
	}, c.noWords, func(ctx context.Context, _ *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(ctx, healthTimeout)
		defer cancel()
		checked, err := "", error(nil)
		switch {
		case address != "":
			checked, err = checkHTTP(ctx, address, live)
		case live:
			return usagef("health", "--live needs --http")
		default:
			checked, err = c.checkInstance(ctx, o)
		}
		if err != nil {
			return err
		}
		if o.json {
			return c.printJSON(healthView{true, checked})
		}
		_, err = fmt.Fprintln(c.stdout, checked)
		return err
	})
	o.addTo(cmd.Flags())
	textVar(cmd.Flags(), &address, "http", "address of a serve on this host, such as :8080")
	cmd.Flags().BoolVar(&live, "live", false, "ask whether it is live, not whether it is ready")
	completeFlags(cmd, c.flagCompletions())
	return cmd
}

// checkHTTP asks a probe of serve --http.
func checkHTTP(ctx context.Context, address string, live bool) (checked string, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", usagef("health", "invalid value %q for flag --http: %v", address, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	probe := "ready"
	if live {
		probe = "live"
	}
	url := "http://" + net.JoinHostPort(host, port) + "/" + probe + "z"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", url, err)
	}
	transport := &http.Transport{DisableKeepAlives: true} // without a proxy: a serve of this host is asked
	reply, err := transport.RoundTrip(request)
	if err != nil {
		return "", err // it names the address
	}
	defer reply.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(reply.Body, 100))
	if reply.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s replies: %s: %s", url, reply.Status, text.Printable(strings.TrimSpace(string(body))))
	}
	return url + " replies: " + probe, nil
}

// checkInstance asks the broker for an instance of this host.
func (c *commandLine) checkInstance(ctx context.Context, o *controlOptions) (checked string, err error) {
	ctl, closeBroker, err := c.openControl(ctx, "health", o)
	if err != nil {
		return "", err
	}
	defer closeBroker()
	known, ok := ctl.broker.(broker.Instances)
	if !ok {
		return "", errors.New("this broker has no broker.Instances, so only health --http tells whether a serve works")
	}
	instances, err := known.Instances(ctx)
	if err != nil {
		return "", err
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("read the name of this host: %w", err)
	}
	var last *broker.Instance
	for _, i := range instances {
		if i.Host == host && (last == nil || i.Seen.After(last.Seen)) {
			last = i
		}
	}
	if last == nil {
		return "", fmt.Errorf("no consumer or scheduler of host %s is up", host)
	}
	return fmt.Sprintf("%s %d of host %s is up", last.Role, last.PID, host), nil
}
