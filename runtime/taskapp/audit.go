package taskapp

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/text"
)

// auditView is the audit of a queue, as JSON.
type auditView struct {
	Queue    string        `json:"queue"`
	Runs     int           `json:"runs"`
	Mended   bool          `json:"mended"`
	Findings []findingView `json:"findings"`
}

type findingView struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
	Fault string `json:"fault"`
	Cure  string `json:"cure"`
}

func (a *app) audit(ctx context.Context, args []string) error {
	o := &controlOptions{}
	set := a.flags("audit")
	o.addTo(set)
	textVar(set, &o.queue, "queue", "only this queue (default all)")
	dry := set.Bool("dry-run", false, "report only, mend nothing")
	err := a.parse(set, args, manual{
		usage: "audit [flags]",
		intro: "Finds and mends, while all is in use, what the broker stores and nobody works on:\n" +
			"a crash or a failover of its server, or another program, can leave parts apart.\n" +
			"Consumers do the same by themselves, a little at a time. It reads all runs of a\nqueue.",
		example: "audit --queue mail --dry-run",
	})
	if err != nil {
		return err
	}
	c, closeBroker, err := a.openControl(ctx, "audit", o)
	if err != nil {
		return err
	}
	defer closeBroker()
	auditor, ok := c.broker.(maintenance.Auditor)
	if !ok {
		return errors.New("this broker has no maintenance.Auditor, so it cannot be audited")
	}
	views := []auditView{}
	var failed error
	for _, queue := range c.queues {
		report, err := auditor.Audit(ctx, queue, !*dry)
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
			if err := a.printAudit(view); err != nil {
				return err
			}
		}
	}
	if o.json {
		if err := a.printJSON(views); err != nil {
			return err
		}
	}
	if failed != nil {
		return errors.New(strings.ReplaceAll(failed.Error(), "\n", "; "))
	}
	return nil
}

func newAuditView(queue string, report maintenance.Report) auditView {
	view := auditView{Queue: queue, Runs: report.Runs, Mended: report.Mended, Findings: []findingView{}}
	for _, f := range report.Findings() {
		view.Findings = append(view.Findings, findingView(f))
	}
	return view
}

func (a *app) printAudit(view auditView) error {
	verdict := "nothing amiss"
	if len(view.Findings) > 0 {
		verdict = "found"
	}
	if _, err := fmt.Fprintf(a.stdout, "queue %s, %s: %s\n", text.Printable(view.Queue), text.Count(view.Runs, "run"), verdict); err != nil {
		return err
	}
	for _, f := range view.Findings {
		cure := f.Cure
		if !view.Mended {
			cure = "not mended"
		}
		if _, err := fmt.Fprintf(a.stdout, "  %d %s: %s\n", f.Count, f.Fault, cure); err != nil {
			return err
		}
	}
	return nil
}
