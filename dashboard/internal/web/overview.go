package web

import "context"

type overviewView struct {
	Total  queueRow
	Queues int
}

func overviewPage(ctx context.Context, r *request) (any, error) {
	f, err := r.fleet(ctx)
	if err != nil {
		return nil, err
	}
	v := &overviewView{Queues: len(f.Queues.Queues)}
	for i := range f.Queues.Queues {
		row := newQueueRow(&f.Queues.Queues[i], f.Schedules.Now)
		v.Total.add(&row)
	}
	return v, nil
}
