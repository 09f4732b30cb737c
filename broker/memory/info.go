package memory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// Queue describes a queue: one that was never used only by its name. To find Oldest it looks
// at 10,000 of the runs that wait, and at the next run of each value of Fair.
func (b *Broker) Queue(ctx context.Context, queue string) (*broker.QueueInfo, error) {
	if err := b.enter(ctx); err != nil {
		return nil, fmt.Errorf("look at queue %.64q: %w", queue, err)
	}
	defer b.mu.Unlock()
	info := &broker.QueueInfo{Queue: queue}
	q := b.queues[queue]
	if q == nil {
		return info, nil
	}
	now := b.now()
	q.promote(now)
	b.wake(q, now)
	info.Paused = q.paused
	info.Disabled = slices.Sorted(maps.Keys(q.disabled))
	info.Delayed = int64(q.delayed.len())
	info.Queued = int64(q.waits()) - info.Delayed
	for _, h := range q.holds {
		info.Running += int64(h.n)
	}
	info.Dead, info.Trimmed = int64(len(q.dead.letters)), q.dead.trimmed
	info.Last = maps.Clone(q.last)
	info.Oldest = q.oldest(now)
	info.Limits, info.Held = q.limitInfos(now)
	return info, nil
}

// oldest returns since when the run is due that waits the longest, the zero time if none
// waits.
func (q *queue) oldest(now clock) time.Time {
	var oldest *storedRun
	look := broker.MaxLook
	lookAt := func(l *readyList) bool {
		for s := l.first; s != nil; s = s.next {
			for e := s.head; e != nil && (look > 0 || e == s.head); e = e.next {
				if look--; oldest == nil || now.until(e.due()) < now.until(oldest.due()) {
					oldest = e
				}
			}
		}
		return true
	}
	for p := range priorities {
		q.eachReadyList(p, lookAt)
	}
	if oldest == nil {
		return time.Time{}
	}
	return now.time(oldest.due())
}

// limitInfos describes the limits that keep runs back, and counts these.
func (q *queue) limitInfos(now clock) (infos []broker.LimitInfo, held int64) {
	for _, l := range q.limits {
		if len(l.backlogs) > 0 {
			infos = append(infos, l.info(now))
			held += infos[len(infos)-1].Waiting
		}
	}
	slices.SortFunc(infos, func(a, b broker.LimitInfo) int {
		return cmp.Or(cmp.Compare(b.Waiting, a.Waiting), cmp.Compare(a.Key, b.Key))
	})
	infos = infos[:min(len(infos), broker.MaxLimitInfos)]
	for i := range infos {
		infos[i].Run = cloneRun(infos[i].Run)
	}
	return infos, held
}

// info describes a limit, as the run asks for it that was queued first of those it keeps back.
func (l *limit) info(now clock) broker.LimitInfo {
	next := l.backlogs[0].head()
	var waiting int64
	for _, bl := range l.backlogs {
		waiting += int64(bl.n)
		if e := bl.head(); e.order < next.order {
			next = e
		}
	}
	info := broker.LimitInfo{Used: l.running, Waiting: waiting, Run: &next.run}
	for _, asked := range next.limits() {
		if asked.Key != l.key {
			continue
		}
		asked = l.numbers(asked)
		used := l.running
		if asked.Per > 0 {
			used = l.within(asked.Per, now)
		}
		if info.Key == "" || used >= asked.Max {
			info.Limit, info.Used = asked, used
		}
	}
	return info
}
