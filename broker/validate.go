package broker

import (
	"fmt"
	"time"
	"unicode/utf8"
)

// Validate returns an error if the run cannot be stored: an id or name is empty, too
// long or not printable ASCII; a header is too long, has no key or is not UTF-8; a key or
// number of its rules is invalid; its kind or priority is unknown; its history exceeds the
// limits; or a time or count is outside the range of the stored form.
func (r *TaskRun) Validate() error { return r.validate(0, 0) }

// validate is Validate for a run that so many others precede, within so many groups.
func (r *TaskRun) validate(depth, nesting int) error {
	if err := checkName("id", r.ID, MaxID, false); err != nil {
		return err
	}
	if err := checkName("task name", r.Task, MaxName, false); err != nil {
		return err
	}
	if err := checkName("queue name", r.Queue, MaxName, false); err != nil {
		return err
	}
	if err := checkName("parent id", r.ParentID, MaxID, true); err != nil {
		return err
	}
	if err := checkName("root id", r.RootID, MaxID, true); err != nil {
		return err
	}
	if len(r.Headers) > MaxHeaders {
		return fmt.Errorf("%d headers, at most %d are allowed", len(r.Headers), MaxHeaders)
	}
	for k, v := range r.Headers {
		switch {
		case len(k)+len(v) > MaxHeader:
			return fmt.Errorf("header %.32q has %d bytes, at most %d are allowed", k, len(k)+len(v), MaxHeader)
		case k == "" || !utf8.ValidString(k) || !utf8.ValidString(v):
			return fmt.Errorf("header %.32q has no key or is not UTF-8", k)
		}
	}
	if r.Rules != nil {
		if err := r.Rules.validate(); err != nil {
			return err
		}
	}
	if r.Links != nil {
		if err := r.Links.validate(depth, nesting); err != nil {
			return err
		}
	}
	if r.History != nil {
		if err := r.History.validate(); err != nil {
			return err
		}
	}
	return r.validateNumbers()
}

func (r *Rules) validate() error {
	if err := checkName("unique key", r.Unique, MaxKey, true); err != nil {
		return err
	}
	if err := checkName("fair key", r.Fair, MaxKey, true); err != nil {
		return err
	}
	if r.UniqueFor < 0 {
		return fmt.Errorf("the unique time is negative")
	}
	if len(r.Limits) > MaxLimits {
		return fmt.Errorf("%d limits, at most %d are allowed", len(r.Limits), MaxLimits)
	}
	for _, l := range r.Limits {
		if err := checkName("limit key", l.Key, MaxKey, false); err != nil {
			return err
		}
		if l.Max < 1 || l.Per < 0 {
			return fmt.Errorf("the limit %.64q of %d in %v is not a positive number in a time that is not negative", l.Key, l.Max, l.Per)
		}
	}
	return nil
}

// validate is for the links of a run that so many others precede, within so many groups.
func (l *Links) validate(depth, nesting int) error {
	if err := checkName("group", l.Group, MaxID, true); err != nil {
		return err
	}
	if err := checkName("group's queue name", l.GroupQueue, MaxName, true); err != nil {
		return err
	}
	if err := checkName("awaited group", l.Awaits.ID, MaxID, true); err != nil {
		return err
	}
	if err := checkName("awaited group's queue name", l.Awaits.Queue, MaxName, l.Awaits.ID == ""); err != nil {
		return err
	}
	if l.Member < 0 || l.Member >= MaxGroup || l.Awaits.Size < 0 || l.Awaits.Size > MaxGroup {
		return fmt.Errorf("member %d of a group, or a group of %d: at most %d are allowed", l.Member, l.Awaits.Size, MaxGroup)
	}
	if l.Returned < 0 {
		return fmt.Errorf("the number of runs that returned a call is negative")
	}
	if err := l.validateMembers(nesting); err != nil {
		return err
	}
	if len(l.Then) > MaxThen || len(l.Then) > 0 && depth >= MaxThen {
		return fmt.Errorf("%d follow-ups, %d deep: at most %d and %d are allowed", len(l.Then), depth+1, MaxThen, MaxThen)
	}
	for _, c := range l.Then {
		if c.Run == nil {
			return fmt.Errorf("a follow-up without a run")
		}
		if err := c.Run.validate(depth+1, nesting); err != nil {
			return fmt.Errorf("follow-up %.64q: %w", c.Run.ID, err)
		}
	}
	return nil
}

// validateMembers is for the members of a group within so many others.
func (l *Links) validateMembers(nesting int) error {
	switch {
	case len(l.Members) == 0:
		return nil
	case len(l.Members) != l.Awaits.Size || l.Awaits.ID == "":
		return fmt.Errorf("%d members of the group %.64q of %d", len(l.Members), l.Awaits.ID, l.Awaits.Size)
	case nesting >= MaxNesting:
		return fmt.Errorf("groups are %d deep, at most %d are allowed", nesting+1, MaxNesting)
	}
	for i, m := range l.Members {
		if m == nil {
			return fmt.Errorf("a member without a run")
		}
		if err := m.validate(0, nesting+1); err != nil {
			return fmt.Errorf("member %.64q: %w", m.ID, err)
		}
		if of := m.Links.OrZero(); of.Group != l.Awaits.ID || of.Member != i || m.GroupQueue() != l.Awaits.Queue {
			return fmt.Errorf("run %.64q is member %d of group %.64q in queue %s, and not member %d of group %s in queue %s",
				m.ID, of.Member, of.Group, m.GroupQueue(), i, l.Awaits.ID, l.Awaits.Queue)
		}
	}
	return nil
}

func (r *TaskRun) validateNumbers() error {
	switch {
	case r.Kind != IO && r.Kind != CPU:
		return fmt.Errorf("unknown kind %d", int8(r.Kind))
	case r.Priority < Low || r.Priority > High:
		return fmt.Errorf("unknown priority %d", int8(r.Priority))
	case r.Delay < 0 || r.Expire < 0 || r.Keep < 0:
		return fmt.Errorf("a delay, expiry or keeping time is negative")
	case r.Attempt < 0 || r.Deliveries < 0:
		return fmt.Errorf("the number of attempts or deliveries is negative")
	}
	if err := checkTime("queued", r.QueuedAt); err != nil {
		return err
	}
	return checkTime("due", r.Due)
}

// endOfTime is the first instant after the year 2200, in Unix seconds.
const endOfTime = 7289654400

// checkTime holds an instant against what 64 bits of nanoseconds can tell.
func checkTime(what string, t time.Time) error {
	if s := t.Unix(); (s < 0 || s >= endOfTime) && !t.IsZero() {
		return fmt.Errorf("%s in the year %d, which is outside 1970 to 2200", what, t.UTC().Year())
	}
	return nil
}

func checkName(what, v string, max int, empty bool) error {
	if v == "" && !empty {
		return fmt.Errorf("the %s is empty", what)
	}
	if len(v) > max {
		return fmt.Errorf("the %s has %d bytes, at most %d are allowed", what, len(v), max)
	}
	for i := range len(v) {
		if v[i]-'!' > '~'-'!' { // below it wraps around
			return fmt.Errorf("the %s %.64q is not printable ASCII without spaces", what, v)
		}
	}
	return nil
}
