package broker

import (
	"fmt"
	"slices"
	"time"

	"github.com/taskgen/taskgen/codec"
)

// Limits on what a run carries, and a call. The producer limits the payload of a run.
const (
	MaxID      = 200 // bytes
	MaxName    = 128 // bytes of a task's or queue's name
	MaxHeaders = 32
	MaxHeader  = 1024   // bytes of a header's key and value together
	MaxKey     = 200    // bytes of the key of Unique, Fair and a limit
	MaxLimits  = 4      // of one run
	MaxGroup   = 10_000 // members of a group
	MaxThen    = 16     // follow-ups of one run, and the depth of follow-ups of follow-ups
	MaxNesting = 8      // how deep groups are within groups

	// MaxGroupResults bounds the results and failures of a group's members together, in
	// bytes. They are all in memory when the run that awaits the group starts.
	MaxGroupResults = 64 << 20

	// MaxBatch bounds the parameters and headers of the runs of one call and of their
	// follow-ups together, in bytes. A server that stores all of them or none does
	// nothing else in that time.
	MaxBatch = 64 << 20

	// MaxRuns is how many runs one call queues at most, members of groups in it included.
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

// fields is a map of an envelope as it is written.
type fields struct {
	b []byte
	n int
}

// key begins the field of a key, whose value is to follow.
func (f *fields) key(key string) {
	f.b = codec.AppendString(f.b, key)
	f.n++
}

func (f *fields) str(key, v string) {
	if v != "" {
		f.key(key)
		f.b = codec.AppendString(f.b, v)
	}
}

func (f *fields) num(key string, v int64) {
	if v != 0 {
		f.key(key)
		f.b = codec.AppendInt(f.b, v)
	}
}

func (f *fields) flag(key string, v bool) {
	if v {
		f.num(key, 1)
	}
}

// AppendBinary appends the run's stored form to b: a version byte and a
// MessagePack map with short keys, without zero values and without Receipt.
func (r *TaskRun) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, envelopeVersion)
	at := len(b)
	b = append(b, 0x80) // patched below: fewer than 16 keys are written short
	n := 0
	// These are inlined, and b stays in registers: most runs have no more than such fields.
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
	if r.KeepParams {
		num("ek", 1)
	}
	if r.OwnID {
		num("o", 1)
	}
	num("a", int64(r.Attempt))
	num("d", int64(r.Deliveries))
	str("f", r.ParentID)
	str("r", r.RootID)
	if r.Rules != nil || r.Links != nil || r.History != nil {
		f := fields{b, n}
		if r.History != nil {
			f.history(r.History)
		}
		if r.Rules != nil {
			f.rules(r.Rules)
		}
		if r.Links != nil {
			f.links(r.Links)
		}
		b, n = f.b, f.n
	}
	if len(r.Headers) > 0 {
		b = appendHeaders(codec.AppendString(b, "h"), r.Headers)
		n++
	}
	if r.Links != nil && len(r.Links.Members) > 0 {
		var err error
		if b, err = appendMembers(codec.AppendString(b, "zm"), r.Links.Members); err != nil {
			return nil, err
		}
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

func (f *fields) history(h *History) {
	if len(h.Attempts) > 0 {
		f.key("ha")
		f.b = AppendAttempts(f.b, h.Attempts)
	}
	f.num("hd", unixNano(h.Due))
}

func (f *fields) rules(r *Rules) {
	f.str("n", r.Unique)
	f.num("m", int64(r.UniqueFor))
	f.flag("ns", r.UntilStart)
	if len(r.Limits) > 0 {
		f.key("l")
		f.b = appendLimits(f.b, r.Limits)
	}
	f.str("g", r.Fair)
}

// links are those but for the members and the follow-ups.
func (f *fields) links(l *Links) {
	f.str("wq", l.GroupQueue) // before w: see Decoder.Member
	f.str("w", l.Group)
	f.num("v", int64(l.Member))
	f.str("z", l.Awaits.ID)
	f.str("zq", l.Awaits.Queue)
	f.num("zn", int64(l.Awaits.Size))
	f.str("zk", l.Awaits.Param)
	f.flag("zp", l.Awaits.Partial)
	f.num("cn", int64(l.Returned))
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

// appendMembers appends an array of runs.
func appendMembers(b []byte, members []*TaskRun) ([]byte, error) {
	b = codec.AppendArrayLen(b, len(members))
	for _, m := range members {
		run, err := m.MarshalBinary()
		if err != nil {
			return nil, err
		}
		b = codec.AppendBytes(b, run)
	}
	return b, nil
}

// appendThen appends an array of parameter, whether it is keyed, and run of each.
func appendThen(b []byte, then []FollowUp) ([]byte, error) {
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

// UnmarshalBinary decodes the stored form of a run. It keeps no part of b. The error
// names the fault and its place in b.
func (r *TaskRun) UnmarshalBinary(b []byte) error {
	var d Decoder
	if err := d.Decode(b, r); err != nil {
		return err
	}
	r.Payload = slices.Clone(r.Payload)
	return nil
}

// Decoder decodes many stored runs of the same few tasks and queues with little memory.
// Its zero value is ready to use. It is not safe for concurrent use.
type Decoder struct {
	task, queue string

	// Of a run within others:
	depth   int  // in the follow-ups of others
	nesting int  // in the groups of others
	inner   *int // how many runs were decoded within the outermost
}

// Decode decodes the stored form of a run. The payload shares b's memory, so b must not
// change afterwards. The error names the fault and its place in b; it wraps [ErrNewer]
// if a newer version of this package stored the run.
func (d *Decoder) Decode(b []byte, r *TaskRun) error { return d.DecodeWithID("", b, r) }

// DecodeWithID is Decode for a run whose id was empty when it was encoded, and is
// stored beside it. An id in b wins.
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

func (r *TaskRun) ensureHistory() *History {
	if r.History == nil {
		r.History = &History{}
	}
	return r.History
}

// dropEmpty drops rules, links and histories that say nothing, which others may have written.
func (r *TaskRun) dropEmpty() {
	if s := r.Rules; s != nil && s.Unique == "" && s.UniqueFor == 0 && !s.UntilStart && len(s.Limits) == 0 && s.Fair == "" {
		r.Rules = nil
	}
	if l := r.Links; l != nil && l.Group == "" && l.Member == 0 && l.GroupQueue == "" && l.Awaits == (Group{}) && len(l.Members) == 0 && len(l.Then) == 0 && l.Returned == 0 {
		r.Links = nil
	}
	if h := r.History; h != nil && len(h.Attempts) == 0 && h.Due.IsZero() {
		r.History = nil
	}
}

// known returns the text of b, as before if it was the same before.
func known(before *string, b []byte) string {
	if string(b) != *before {
		*before = string(b)
	}
	return *before
}

// field reads one field. It is one switch because two cost decoding a third more.
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
	case "ek":
		r.KeepParams = in.Int() != 0
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
	case "ha":
		r.ensureHistory().Attempts = ReadAttempts(in)
	case "hd":
		r.ensureHistory().Due = fromUnixNano(in.Int64())
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
	case "wq":
		r.EnsureLinks().GroupQueue = in.String()
	case "w":
		r.EnsureLinks().Group = in.String()
	case "v":
		r.EnsureLinks().Member = in.Int()
	case "z":
		r.EnsureLinks().Awaits.ID = in.String()
	case "zq":
		r.EnsureLinks().Awaits.Queue = in.String()
	case "zn":
		r.EnsureLinks().Awaits.Size = in.Int()
	case "zk":
		r.EnsureLinks().Awaits.Param = in.String()
	case "zp":
		r.EnsureLinks().Awaits.Partial = in.Int() != 0
	case "cn":
		r.EnsureLinks().Returned = in.Int()
	case "zm":
		r.EnsureLinks().Members = d.readMembers(in)
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

func (d *Decoder) readThen(in *codec.Reader) []FollowUp {
	n := in.ArrayLen()
	if n%3 != 0 || n > 3*MaxThen || d.depth >= MaxThen {
		in.Fail(fmt.Errorf("follow-ups of %d values, %d deep: at most %d times 3 and %d are allowed", n, d.depth+1, MaxThen, MaxThen))
		return nil
	}
	within := Decoder{depth: d.depth + 1, nesting: d.nesting, inner: d.countInner()}
	then := make([]FollowUp, 0, n/3)
	for ; n > 0 && in.More(); n -= 3 {
		then = append(then, FollowUp{Param: in.String(), Keyed: in.Bool(), Run: within.readInner(in)})
	}
	return then
}

func (d *Decoder) readMembers(in *codec.Reader) []*TaskRun {
	n := in.ArrayLen()
	if n > MaxGroup || d.nesting >= MaxNesting {
		in.Fail(fmt.Errorf("a group of %d, %d deep: at most %d and %d are allowed", n, d.nesting+1, MaxGroup, MaxNesting))
		return nil
	}
	within := Decoder{nesting: d.nesting + 1, inner: d.countInner()}
	var members []*TaskRun
	for ; n > 0 && in.More(); n-- {
		members = append(members, within.readInner(in))
	}
	return members
}

// countInner returns the count of the runs within the outermost.
func (d *Decoder) countInner() *int {
	if d.inner == nil {
		return new(int)
	}
	return d.inner
}

// readInner reads a run within another.
func (d *Decoder) readInner(in *codec.Reader) *TaskRun {
	run := new(TaskRun)
	if *d.inner++; *d.inner > MaxRuns {
		in.Fail(fmt.Errorf("more than %d runs in one", MaxRuns))
		return run
	}
	if err := d.Decode(in.Bytes(), run); err != nil && in.More() {
		in.Fail(err)
	}
	return run
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
