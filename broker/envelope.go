package broker

import (
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/taskgen/taskgen/codec"
)

// Limits on what a run may carry, so that bad input is refused before it is
// stored. The payload's limit is the producer's.
const (
	MaxID      = 200 // bytes
	MaxName    = 128 // bytes of a task's or queue's name
	MaxHeaders = 32
	MaxHeader  = 1024 // bytes of a header's key and value together
	MaxKey     = 200  // bytes of the key of Unique, Fair and a limit
	MaxLimits  = 4    // of one run
	MaxGroup   = 10_000
	MaxThen    = 16   // continuations of one run, and how many follow each other
	MaxLeftOut = 1000 // what Policies.LeftOut has to tell

	// MaxGathered bounds what the members of a group ended with, results and
	// failures together, in bytes: whoever gathers them has all of it in memory.
	MaxGathered = 64 << 20

	// MaxBatch bounds what the runs of one call carry, parameters and headers of
	// them and of what is to follow them, in bytes: a server that stores them all
	// or none does nothing else meanwhile.
	MaxBatch = 64 << 20

	// MaxRuns bounds how many runs one call queues.
	MaxRuns = 100_000
)

// envelopeVersion opens every encoded run. A reader refuses what it does not
// know, as [ErrNewer] if it is a later one; fields can be added to the map without
// a new version. Versions go up to lastVersion: what opens with a greater byte, as
// text does, is no envelope.
const (
	envelopeVersion = 1
	lastVersion     = 31
)

// AppendBinary appends the run's stored form to b: a version byte and a
// MessagePack map with short keys, zero values left out. Receipt is not part
// of it.
func (r *TaskRun) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, envelopeVersion)
	at := len(b)
	b = append(b, 0x80) // patched below: fewer than 16 keys are written short
	n := 0
	str := func(key, v string) {
		if v != "" {
			b = codec.AppendString(codec.AppendString(b, key), v)
			n++
		}
	}
	num := func(key string, v int64) {
		if v != 0 {
			b = codec.AppendInt(codec.AppendString(b, key), v)
			n++
		}
	}
	str("i", r.ID)
	str("t", r.Task)
	str("q", r.Queue)
	num("k", int64(r.Kind))
	num("p", int64(r.Priority))
	num("j", int64(r.Schema))
	num("c", unixNano(r.QueuedAt))
	num("u", unixNano(r.Due))
	num("y", int64(r.Delay))
	num("x", int64(r.Expire))
	num("e", int64(r.Keep))
	if r.OwnID {
		num("o", 1)
	}
	num("a", int64(r.Attempt))
	num("d", int64(r.Deliveries))
	str("f", r.ParentID)
	str("r", r.RootID)
	if rules := r.Rules; rules != nil {
		str("n", rules.Unique)
		num("m", int64(rules.UniqueFor))
		if rules.UntilStart {
			num("ns", 1)
		}
		if len(rules.Limits) > 0 {
			b = appendLimits(codec.AppendString(b, "l"), rules.Limits)
			n++
		}
		str("g", rules.Fair)
	}
	if links := r.Links; links != nil {
		str("w", links.Group)
		num("v", int64(links.Member))
		str("z", links.Gathers.Group)
		str("zq", links.Gathers.Queue)
		num("zn", int64(links.Gathers.Size))
		str("zk", links.Gathers.Param)
		if links.Gathers.Partial {
			num("zp", 1)
		}
	}
	if len(r.Headers) > 0 {
		b = appendHeaders(codec.AppendString(b, "h"), r.Headers)
		n++
	}
	if r.Links != nil && len(r.Links.Then) > 0 {
		var err error
		if b, err = appendThen(codec.AppendString(b, "s"), r.Links.Then); err != nil {
			return nil, err
		}
		n++
	}
	b = codec.AppendBytes(codec.AppendString(b, "b"), r.Payload)
	n++
	if n < 16 {
		b[at] |= byte(n)
		return b, nil
	}
	b = slices.Insert(b, at+1, byte(n>>8), byte(n))
	b[at] = 0xde // a map with a 16-bit length
	return b, nil
}

// MarshalBinary returns the run's stored form, as AppendBinary writes it.
func (r *TaskRun) MarshalBinary() ([]byte, error) {
	return r.AppendBinary(make([]byte, 0, 128+len(r.Payload)))
}

func appendHeaders(b []byte, headers map[string]string) []byte {
	keys := make([]string, 0, len(headers))
	for k := range headers {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b = codec.AppendMapLen(b, len(keys))
	for _, k := range keys {
		b = codec.AppendString(codec.AppendString(b, k), headers[k])
	}
	return b
}

// appendLimits appends an array of key, maximum and time of each.
func appendLimits(b []byte, limits []Limit) []byte {
	b = codec.AppendArrayLen(b, 3*len(limits))
	for _, l := range limits {
		b = codec.AppendInt(codec.AppendString(b, l.Key), int64(l.Max))
		b = codec.AppendInt(b, int64(l.Per))
	}
	return b
}

// appendThen appends an array of parameter, whether it is keyed, and run of each.
func appendThen(b []byte, then []Continuation) ([]byte, error) {
	b = codec.AppendArrayLen(b, 3*len(then))
	for _, c := range then {
		run, err := c.Run.MarshalBinary()
		if err != nil {
			return nil, err
		}
		b = codec.AppendBool(codec.AppendString(b, c.Param), c.Keyed)
		b = codec.AppendBytes(b, run)
	}
	return b, nil
}

// UnmarshalBinary sets the run to what b holds, the stored form of a run. It
// copies what it keeps. The error says what is wrong with b and where.
func (r *TaskRun) UnmarshalBinary(b []byte) error {
	var d Decoder
	if err := d.Decode(b, r); err != nil {
		return err
	}
	r.Payload = slices.Clone(r.Payload)
	return nil
}

// Decoder decodes stored runs with little memory, many of the same few tasks
// and queues. It is for one goroutine; its zero value is ready.
type Decoder struct {
	task, queue string
	depth       int // of a run in the continuations of others
}

// Decode sets the run to what b holds, the stored form of a run. The payload
// shares b's memory, so b must not change afterwards. The error says what is
// wrong with b and where.
func (d *Decoder) Decode(b []byte, r *TaskRun) error { return d.DecodeWithID("", b, r) }

// DecodeWithID is Decode for a run whose id is stored beside it, and was empty
// when it was encoded. An id in b is kept.
func (d *Decoder) DecodeWithID(id string, b []byte, r *TaskRun) error {
	switch {
	case len(b) == 0 || b[0] < envelopeVersion || b[0] > lastVersion:
		return fmt.Errorf("decode run: not an envelope of version %d", envelopeVersion)
	case b[0] > envelopeVersion:
		return fmt.Errorf("decode run: an envelope of version %d, this build reads those up to %d: %w", b[0], envelopeVersion, ErrNewer)
	}
	*r = TaskRun{ID: id}
	in := codec.NewReader(b[1:])
	for n := in.MapLen(); n > 0 && in.More(); n-- {
		d.field(in, r)
	}
	if err := in.Done(); err != nil {
		return fmt.Errorf("decode run: %w", err)
	}
	r.dropEmpty()
	if err := r.Validate(); err != nil {
		return fmt.Errorf("decode run: %w", err)
	}
	return nil
}

// dropEmpty drops rules and links that say nothing, which others may have written.
func (r *TaskRun) dropEmpty() {
	if s := r.Rules; s != nil && s.Unique == "" && s.UniqueFor == 0 && !s.UntilStart && len(s.Limits) == 0 && s.Fair == "" {
		r.Rules = nil
	}
	if l := r.Links; l != nil && l.Group == "" && l.Member == 0 && l.Gathers == (Gather{}) && len(l.Then) == 0 {
		r.Links = nil
	}
}

// known returns the text of b, as before if it was the same before.
func known(before *string, b []byte) string {
	if string(b) != *before {
		*before = string(b)
	}
	return *before
}

func (d *Decoder) field(in *codec.Reader, r *TaskRun) {
	switch string(in.Key()) {
	case "i":
		r.ID = in.String()
	case "t":
		r.Task = known(&d.task, in.Text())
	case "q":
		r.Queue = known(&d.queue, in.Text())
	case "k":
		r.Kind = Kind(in.Int8())
	case "p":
		r.Priority = Priority(in.Int8())
	case "j":
		r.Schema = in.Uint32()
	case "c":
		r.QueuedAt = fromUnixNano(in.Int64())
	case "u":
		r.Due = fromUnixNano(in.Int64())
	case "y":
		r.Delay = in.Duration()
	case "x":
		r.Expire = in.Duration()
	case "e":
		r.Keep = in.Duration()
	case "o":
		r.OwnID = in.Int() != 0
	case "a":
		r.Attempt = in.Int()
	case "d":
		r.Deliveries = in.Int()
	case "f":
		r.ParentID = in.String()
	case "r":
		r.RootID = in.String()
	case "n":
		r.EnsureRules().Unique = in.String()
	case "m":
		r.EnsureRules().UniqueFor = in.Duration()
	case "ns":
		r.EnsureRules().UntilStart = in.Int() != 0
	case "l":
		r.EnsureRules().Limits = readLimits(in)
	case "g":
		r.EnsureRules().Fair = in.String()
	case "w":
		r.EnsureLinks().Group = in.String()
	case "v":
		r.EnsureLinks().Member = in.Int()
	case "z":
		r.EnsureLinks().Gathers.Group = in.String()
	case "zq":
		r.EnsureLinks().Gathers.Queue = in.String()
	case "zn":
		r.EnsureLinks().Gathers.Size = in.Int()
	case "zk":
		r.EnsureLinks().Gathers.Param = in.String()
	case "zp":
		r.EnsureLinks().Gathers.Partial = in.Int() != 0
	case "s":
		r.EnsureLinks().Then = d.readThen(in)
	case "h":
		r.Headers = readHeaders(in)
	case "b":
		r.Payload = in.View()
	default:
		in.Skip() // written by a newer version
	}
}

func readLimits(in *codec.Reader) []Limit {
	n := in.ArrayLen()
	if n%3 != 0 || n > 3*MaxLimits {
		in.Fail(fmt.Errorf("limits of %d values, at most %d times 3 are allowed", n, MaxLimits))
		return nil
	}
	limits := make([]Limit, 0, n/3)
	for ; n > 0 && in.More(); n -= 3 {
		limits = append(limits, Limit{Key: in.String(), Max: in.Int(), Per: in.Duration()})
	}
	return limits
}

func (d *Decoder) readThen(in *codec.Reader) []Continuation {
	n := in.ArrayLen()
	if n%3 != 0 || n > 3*MaxThen || d.depth >= MaxThen {
		in.Fail(fmt.Errorf("continuations of %d values, %d deep: at most %d times 3 and %d are allowed", n, d.depth+1, MaxThen, MaxThen))
		return nil
	}
	inner := Decoder{depth: d.depth + 1}
	then := make([]Continuation, 0, n/3)
	for ; n > 0 && in.More(); n -= 3 {
		c := Continuation{Param: in.String(), Keyed: in.Bool(), Run: new(TaskRun)}
		if err := inner.Decode(in.Bytes(), c.Run); err != nil && in.More() {
			in.Fail(err)
		}
		then = append(then, c)
	}
	return then
}

func readHeaders(d *codec.Reader) map[string]string {
	n := d.MapLen()
	if n > MaxHeaders {
		d.Fail(fmt.Errorf("%d headers, at most %d are allowed", n, MaxHeaders))
		return nil
	}
	h := make(map[string]string, n)
	for ; n > 0 && d.More(); n-- {
		k := d.String()
		h[k] = d.String()
	}
	return h
}

func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromUnixNano(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// Validate says what in the run a broker could not store safely: an id or name
// that is empty, too long or not printable ASCII, a header that is too long,
// has no key or is not UTF-8, a policy's key or number that is none, an unknown
// kind or priority, or a time or count outside the range of the stored form.
func (r *TaskRun) Validate() error { return r.validate(0) }

// validate is Validate for a run that so many others precede.
func (r *TaskRun) validate(depth int) error {
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
		if err := r.Links.validate(depth); err != nil {
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

// validate is for the links of a run that so many others precede.
func (l *Links) validate(depth int) error {
	if err := checkName("group", l.Group, MaxID, true); err != nil {
		return err
	}
	if err := checkName("gathered group", l.Gathers.Group, MaxID, true); err != nil {
		return err
	}
	if err := checkName("gathered group's queue name", l.Gathers.Queue, MaxName, l.Gathers.Group == ""); err != nil {
		return err
	}
	if l.Member < 0 || l.Member >= MaxGroup || l.Gathers.Size < 0 || l.Gathers.Size > MaxGroup {
		return fmt.Errorf("member %d of a group, or a group of %d: at most %d are allowed", l.Member, l.Gathers.Size, MaxGroup)
	}
	if len(l.Then) > MaxThen || len(l.Then) > 0 && depth >= MaxThen {
		return fmt.Errorf("%d continuations, %d deep: at most %d and %d are allowed", len(l.Then), depth+1, MaxThen, MaxThen)
	}
	for _, c := range l.Then {
		if c.Run == nil {
			return fmt.Errorf("a continuation without a run")
		}
		if err := c.Run.validate(depth + 1); err != nil {
			return fmt.Errorf("continuation %.64q: %w", c.Run.ID, err)
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
