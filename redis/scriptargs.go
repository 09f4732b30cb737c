package redis

// The keys and arguments of each script that have a name, in their order. What a script
// has more of follows them (its file says what that is).

// noArgs are those of a script whose arguments have no names.
type noArgs struct{}

func (*noArgs) append(args []any) []any { return args }

func attendKeys(q *queue, session string) []string { return []string{q.Last, q.Cancels(session)} }

type attendArgs struct {
	Keep  int64 // milliseconds
	Tasks int
}

func (a *attendArgs) append(args []any) []any { return append(args, a.Keep, a.Tasks) }

// auditArgs is the first argument of all audits: whether they mend, or only count.
type auditArgs struct {
	Mend bool
}

func (a *auditArgs) append(args []any) []any { return append(args, yes(a.Mend)) }

func auditBuryKeys(q *queue, place string) []string {
	return []string{q.Dead, q.Dropped, q.Lines, q.Turns, q.Policy, q.Opens, place}
}

type auditBuryArgs struct {
	Mend    bool
	MaxDead int
	Failure string // of entries that cannot be read
	Before  int    // how many bytes of an entry come before its element
}

func (a *auditBuryArgs) append(args []any) []any {
	return append(args, yes(a.Mend), a.MaxDead, a.Failure, a.Before)
}

func auditCopyKeys(q *queue, kept, keptDone, other, otherDone string) []string {
	return []string{q.Lines, q.Turns, q.Policy, q.Opens, kept, keptDone, other, otherDone}
}

type auditCopyArgs struct {
	Mend      bool
	KeptEntry string
	KeptIndex int // in a batch, else -1
	CopyEntry string
	CopyIndex int
}

func (a *auditCopyArgs) append(args []any) []any {
	return append(args, yes(a.Mend), a.KeptEntry, a.KeptIndex, a.CopyEntry, a.CopyIndex)
}

func auditCountsKeys(q *queue) []string {
	return []string{q.Flights, q.Lines, q.Turns, q.Policy, q.Opens, q.Held}
}

type auditCountsArgs struct {
	Mend, Brief      bool
	Batches, Bitmaps string // what their keys open with
	From             string
}

func (a *auditCountsArgs) append(args []any) []any {
	return append(args, yes(a.Mend), yes(a.Brief), a.Batches, a.Bitmaps, a.From)
}

func auditOwnersKeys(q *queue) []string { return []string{q.Flights, q.Lines} }

type auditOwnersArgs struct {
	Mend, Brief bool
	Places      int
	Batches     string // what their keys open with
}

func (a *auditOwnersArgs) append(args []any) []any {
	return append(args, yes(a.Mend), yes(a.Brief), a.Places, a.Batches)
}

func auditTurnsKeys(q *queue) []string { return []string{q.Lines, q.Turns, q.Policy, q.Opens} }

type auditTurnsArgs struct {
	Mend bool
	From string
}

func (a *auditTurnsArgs) append(args []any) []any { return append(args, yes(a.Mend), a.From) }

func beginKeys(q *queue, member string) []string { return []string{q.Batch(member), q.Done(member)} }

type beginArgs struct {
	Index, Bits int
}

func (a *beginArgs) append(args []any) []any { return append(args, a.Index, a.Bits) }

// commitKeys has the key of a group only where the runs are its members.
func commitKeys(q *queue, token string, group ...string) []string {
	return append([]string{q.Stages, q.Staged, q.Staging(token), q.Stub(token)}, group...)
}

type commitArgs struct {
	Token    string
	Runs     int
	Reserved string // the token of what reserved the group
}

func (a *commitArgs) append(args []any) []any { return append(args, a.Token, a.Runs, a.Reserved) }

func controlKeys(q *queue) []string {
	return []string{q.Paused, q.Disabled, q.Enabling, q.Wake[0], q.Wake[1]}
}

type controlArgs struct {
	Action, Task string
}

func (a *controlArgs) append(args []any) []any { return append(args, a.Action, a.Task) }

func entryKeys(q *queue) []string { return []string{q.Entries, q.Changes, q.Ticks} }

type deleteEntryArgs struct {
	ID string
}

func (a *deleteEntryArgs) append(args []any) []any { return append(args, a.ID) }

type putEntryArgs struct {
	ID, Task  string
	Rule, Run []byte
	Most      int
}

func (a *putEntryArgs) append(args []any) []any {
	return append(args, a.ID, a.Task, a.Rule, a.Run, a.Most)
}

func enqueueKeys(q *queue) []string {
	return q.Keys(q.Ticks, q.Disabled, q.Dead, q.Outbox, q.Lines, q.Turns, q.Policy)
}

type enqueueArgs struct {
	Token  string
	Groups int
}

func (a *enqueueArgs) append(args []any) []any { return append(args, a.Token, a.Groups) }

func expiredKeys(q *queue) []string {
	return []string{q.Flights, q.Leases, q.Ops, q.Outbox, q.Parking, q.Stages}
}

type expiredArgs struct {
	Cursor string
	Page   int
}

func (a *expiredArgs) append(args []any) []any { return append(args, a.Cursor, a.Page) }

type findArgs struct {
	ID     string
	Looked int64
	Before int
}

func (a *findArgs) append(args []any) []any { return append(args, a.ID, a.Looked, a.Before) }

func finishKeys(q *queue) []string {
	return q.Keys(q.Flights, q.Dead, q.Dropped, q.Waiters, q.Lines, q.Turns, q.Policy, q.Opens, q.Held, q.Outbox)
}

type finishArgs struct {
	MaxDead, Slots int
	BeforeID       int // how many bytes of a record's key come before the id
}

func (a *finishArgs) append(args []any) []any { return append(args, a.MaxDead, a.Slots, a.BeforeID) }

func givebackKeys(q *queue, session, member string) []string {
	return q.Keys(q.Flights, q.Leases, q.Lost(session), q.Batch(member), q.Done(member), q.Dead, q.Dropped,
		q.Lines, q.Turns, q.Policy, q.Opens, q.Held, q.Cancels(session), q.Outbox, q.Raised(session))
}

type givebackArgs struct {
	Session, Member string
	Mode            string
	MaxDead         int
	Failure         string // of entries that cannot be read
	Waits           int
}

func (a *givebackArgs) append(args []any) []any {
	return append(args, a.Session, a.Member, a.Mode, a.MaxDead, a.Failure, a.Waits)
}

func goOnKeys(q *queue) []string { return []string{q.Ticks, q.Entries} }

type goOnArgs struct {
	Field, Tick, Entry string
}

func (a *goOnArgs) append(args []any) []any { return append(args, a.Field, a.Tick, a.Entry) }

// groupArgs has all but the first two only to reserve a group.
type groupArgs struct {
	Action, Token   string
	Size            int
	Entry           []byte
	Keep, KeepEnded int64 // milliseconds
}

func (a *groupArgs) append(args []any) []any {
	return append(args, a.Action, a.Token, a.Size, a.Entry, a.Keep, a.KeepEnded)
}

type markArgs struct {
	ID      string
	Failure []byte
	Keep    int64 // milliseconds
	Looked  int64
}

func (a *markArgs) append(args []any) []any {
	return append(args, a.ID, a.Failure, a.Keep, a.Looked)
}

type outboxArgs struct {
	Skip, Entries, Bytes int
	From                 string
}

func (a *outboxArgs) append(args []any) []any {
	return append(args, a.Skip, a.Entries, a.Bytes, a.From)
}

// parkedKeys has the unique key only of a run that has one.
func parkedKeys(q *queue, id string, unique ...string) []string {
	return append([]string{q.Parked(id), q.Owner(id), q.Record(id), q.Parking}, unique...)
}

// parkedArgs has all but the first three only to park a run.
type parkedArgs struct {
	Action, Token, ID string
	Where             string
	OwnID             bool
	Record            []byte
	Keep              int64 // milliseconds
	Unique            string
}

func (a *parkedArgs) append(args []any) []any {
	return append(args, a.Action, a.Token, a.ID, a.Where, yes(a.OwnID), a.Record, a.Keep, a.Unique)
}

// yes is how scripts have a condition.
func yes(is bool) any {
	if is {
		return "1"
	}
	return "0"
}

// recordKeys has what is committed of large calls last, which not all look at.
func recordKeys(q *queue, id string) []string {
	return []string{q.Record(id), q.Waiters, q.Progress(id), q.Staged}
}

type recordArgs struct {
	Waiter, ID string
}

func (a *recordArgs) append(args []any) []any { return append(args, a.Waiter, a.ID) }

func renewKeys(q *queue, session string) []string {
	return []string{q.Leases, q.Lost(session), q.Flights}
}

type renewArgs struct {
	Session string
	Lease   int64 // milliseconds
	Cursor  string
	Most    int
}

func (a *renewArgs) append(args []any) []any {
	return append(args, a.Session, a.Lease, a.Cursor, a.Most)
}

type rewindArgs struct {
	Field, Claimed, Instead string
}

func (a *rewindArgs) append(args []any) []any { return append(args, a.Field, a.Claimed, a.Instead) }

func stageKeys(q *queue, token string) []string { return []string{q.Stages, q.Staging(token)} }

type stageArgs struct {
	Token  string
	Lease  int64 // milliseconds
	Before int
	Check  bool
}

func (a *stageArgs) append(args []any) []any {
	return append(args, a.Token, a.Lease, a.Before, yes(a.Check))
}

func startKeys(q *queue, member, unique string) []string {
	return []string{q.Batch(member), q.Done(member), q.Unique(unique)}
}

type startArgs struct {
	Index int
	ID    string
}

func (a *startArgs) append(args []any) []any { return append(args, a.Index, a.ID) }

type survivedArgs struct {
	Keep   int64 // milliseconds
	Listed bool
}

func (a *survivedArgs) append(args []any) []any { return append(args, a.Keep, yes(a.Listed)) }

func takeKeys(q *queue, member string) []string {
	return q.Keys(q.Flights, q.Leases, q.Ops, q.Batch(member), q.Paused, q.Disabled, q.Aside, q.Enabling,
		q.Lines, q.Turns, q.Policy, q.Opens, q.Held, q.Starts, q.Rates, q.Outbox, q.Stages)
}

type takeArgs struct {
	Session           string
	Slot              int64
	Lease             int64 // milliseconds
	IO, CPU, Total    int
	Word              string
	AheadIO, AheadCPU int
	Apart             bool
}

func (a *takeArgs) append(args []any) []any {
	return append(args, a.Session, a.Slot, a.Lease, a.IO, a.CPU, a.Total, a.Word, a.AheadIO, a.AheadCPU, yes(a.Apart))
}

func unstageKeys(q *queue, token string) []string {
	return q.Keys(q.Stages, q.Staged, q.Staging(token), q.Stub(token), q.Lines, q.Turns, q.Policy, q.Dead, q.Dropped)
}

type unstageArgs struct {
	Mode, Token string
	Left, Page  int
	MaxDead     int
	Failure     string // of entries that cannot be read
}

func (a *unstageArgs) append(args []any) []any {
	return append(args, a.Mode, a.Token, a.Left, a.Page, a.MaxDead, a.Failure)
}

type watchArgs struct {
	Kinds, Keys int
	Keep        int64 // milliseconds
}

func (a *watchArgs) append(args []any) []any { return append(args, a.Kinds, a.Keys, a.Keep) }
