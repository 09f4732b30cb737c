package taskapp

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/text"
)

// auditView is the audit of a queue, as JSON.
type auditView struct {
	Queue    string        `json:"queue"`
	Runs     int           `json:"runs"`
	Repaired bool          `json:"repaired"`
	Findings []findingView `json:"findings"`
}

type findingView struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
	Fault string `json:"fault"`
	Cure  string `json:"cure"`
}

func (c *commandLine) auditCommand() *cobra.Command {
	o := &controlOptions{}
	dry := false
	cmd := c.command(manual{
		use: "audit", short: "find and repair what nobody works on",
		long: "Finds and repairs, while all is in use, what the broker stores and nobody works on:\n" +
			"a crash or a failover of its server, or another program, can leave parts apart.\n" +
			"Consumers do the same by themselves, a little at a time. It reads all runs of a\nqueue.",
		example: "audit --queue mail --dry-run",
	}, c.noWords, func(ctx context.Context, _ *cobra.Command, _ []string) error { return c.audit(ctx, o, !dry) })
	o.addTo(cmd.Flags())
	textVar(cmd.Flags(), &o.queue, "queue", "only this queue (default all)")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "report only, repair nothing")
	completeFlags(cmd, c.flagCompletions())
	return cmd
}

func (c *commandLine) audit(ctx context.Context, o *controlOptions, repair bool) error {
	ctl, closeBroker, err := c.openControl(ctx, "audit", o)
	if err != nil {
		return err
	}
	defer closeBroker()
	auditor, ok := ctl.broker.(maintenance.Auditor)
	if !ok {
		return errors.New("this broker has no maintenance.Auditor, so it cannot be audited")
	}
	views := []auditView{}
	var failed error
	queues := ctl.queues
	if queues == nil {
		queues = ctl.known
	}
	for _, queue := range queues {
		report, err := auditor.Audit(ctx, queue, repair)
		if err != nil && ctx.Err() != nil {
			return err
		}
		if err != nil { // one queue must not keep the others from it
			failed = errors.Join(failed, fmt.Errorf("queue %s: %w", text.Printable(queue), err))
			continue
		}
		view := newAuditView(queue, report)
		views = append(views, view)
		if !o.json {
			if err := c.printAudit(view); err != nil {
				return err
			}
		}
	}
	if o.json {
		if err := c.printJSON(views); err != nil {
			return err
		}
	}
	if failed != nil {
		return errors.New(strings.ReplaceAll(failed.Error(), "\n", "; "))
	}
	return nil
}

func newAuditView(queue string, report maintenance.Report) auditView {
	view := auditView{Queue: queue, Runs: report.Runs, Repaired: report.Repaired, Findings: []findingView{}}
	for _, f := range report.Findings() {
		view.Findings = append(view.Findings, findingView(f))
	}
	return view
}

func (c *commandLine) printAudit(view auditView) error {
	verdict := "nothing amiss"
	if len(view.Findings) > 0 {
		verdict = "found"
	}
	if _, err := fmt.Fprintf(c.stdout, "queue %s, %s: %s\n", text.Printable(view.Queue), text.Count(view.Runs, "run"), verdict); err != nil {
		return err
	}
	for _, f := range view.Findings {
		cure := f.Cure
		if !view.Repaired {
			cure = "not repaired"
		}
		if _, err := fmt.Fprintf(c.stdout, "  %d %s: %s\n", f.Count, f.Fault, cure); err != nil {
			return err
		}
	}
	return nil
}
