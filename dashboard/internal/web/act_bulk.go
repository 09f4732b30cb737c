package web

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/dashboard/internal/bulk"
)

// startBulk starts the change of all that match a form's filter, and leads to its job.
func startBulk(kind bulk.Kind) func(context.Context, *site, url.Values) (int, error) {
	return func(ctx context.Context, s *site, form url.Values) (int, error) {
		r := bulk.Request{Kind: kind}
		var err error
		if r.Filter, err = runFilterOf(s, form, time.Now()); err != nil {
			return 0, err
		}
		if rate := strings.TrimSpace(form.Get("rate")); rate != "" {
			if r.PerSecond, err = strconv.Atoi(rate); err != nil || r.PerSecond < 1 || r.PerSecond > 1_000_000 {
				return 0, badRequest("the rate is no number from 1 to 1000000; leave it empty to change them as fast as it goes")
			}
		}
		for _, f := range filterFacts(r.Filter) {
			access.EntryOf(ctx).Add("filter "+strings.ToLower(f.Name), f.Text)
		}
		status, err := s.Jobs.Start(ctx, r)
		if err != nil {
			return 0, bulkError(err)
		}
		access.EntryOf(ctx).Add("job", status.ID)
		back, err := link("bulk", "job", status.ID)
		form.Set("back", back)
		return 0, err
	}
}

// stopBulk stops a job.
func stopBulk(ctx context.Context, s *site, form url.Values) (int, error) {
	id, err := inForm(form, "job")
	if err != nil {
		return 0, err
	}
	if status, err := s.Jobs.Get(ctx, id); err == nil {
		access.EntryOf(ctx).Set(status.Kind.Action(), status.Filter.Task, id)
	}
	_, err = s.Jobs.Stop(ctx, id)
	return 0, bulkError(err)
}
