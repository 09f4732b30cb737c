package script

import (
	"embed"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"

	"github.com/taskgen/taskgen/redis/internal/wire"
)

// files are the scripts, and what several of them include.
//
//go:embed *.lua include/*.lua
var files embed.FS

// Scripts are all scripts of the broker.
type Scripts struct {
	Enqueue, Take, Started, Finish, Renew, Expired, Giveback, Record         Script
	Begin, Control, Find, Mark, Attend, Group, Parked, PutEntry, DeleteEntry Script
	Outbox, Start, Watch, Mend, Rewind, Survived, Stage, Commit, Unstage     Script
	GoOn, EndWaiting                                                         Script

	AuditBatches, AuditBury, AuditCopy, AuditOwners, AuditCounts, AuditTurns Script
}

// loading is what a script is loaded with: the function that makes its keys and the struct
// of its arguments give their names.
type loading struct {
	to       *Script
	file     string
	keys     []string
	args     Arguments
	mendable bool
}

const mendable = true

// list returns all scripts, with their keys in a queue.
func (s *Scripts) list(q *wire.QueueKeys) []loading {
	none := new(NoArgs)
	return []loading{
		{&s.Attend, "attend", AttendKeys(q, ""), new(AttendArgs), mendable},
		{&s.AuditBatches, "auditbatches", []string{q.InFlight}, new(AuditArgs), !mendable},
		{&s.AuditBury, "auditbury", AuditBuryKeys(q, "place"), new(AuditBuryArgs), !mendable},
		{&s.AuditCopy, "auditcopy", AuditCopyKeys(q, "kept", "keptDone", "copy", "copyDone"), new(AuditCopyArgs), !mendable},
		{&s.AuditCounts, "auditcounts", AuditCountsKeys(q), new(AuditCountsArgs), !mendable},
		{&s.AuditOwners, "auditowners", AuditOwnersKeys(q), new(AuditOwnersArgs), !mendable},
		{&s.AuditTurns, "auditturns", AuditTurnsKeys(q), new(AuditTurnsArgs), !mendable},
		{&s.Begin, "begin", BeginKeys(q, ""), new(BeginArgs), mendable},
		{&s.Commit, "commit", CommitKeys(q, wire.StageOpens, q.Group("")), new(CommitArgs), mendable},
		{&s.Control, "control", ControlKeys(q), new(ControlArgs), mendable},
		{&s.DeleteEntry, "deleteentry", EntryKeys(q), new(DeleteEntryArgs), mendable},
		{&s.EndWaiting, "endwaiting", EndWaitingKeys(q, "place"), new(EndWaitingArgs), !mendable},
		{&s.Enqueue, "enqueue", EnqueueKeys(q), new(EnqueueArgs), !mendable},
		{&s.Expired, "expired", ExpiredKeys(q), new(ExpiredArgs), mendable},
		{&s.Find, "find", []string{"place"}, new(FindArgs), !mendable},
		{&s.Finish, "finish", FinishKeys(q), new(FinishArgs), !mendable},
		{&s.Giveback, "giveback", GivebackKeys(q, "", ""), new(GivebackArgs), mendable},
		{&s.GoOn, "goon", GoOnKeys(q), new(GoOnArgs), !mendable},
		{&s.Group, "group", []string{q.Group("")}, new(GroupArgs), !mendable},
		{&s.Mark, "mark", nil, new(MarkArgs), mendable},
		{&s.Mend, "mend", nil, none, !mendable},
		{&s.Outbox, "outbox", []string{"list"}, new(OutboxArgs), !mendable},
		{&s.Parked, "parked", ParkedKeys(q, "", q.Unique("")), new(ParkedArgs), !mendable},
		{&s.PutEntry, "putentry", EntryKeys(q), new(PutEntryArgs), mendable},
		{&s.Record, "record", RecordKeys(q, ""), new(RecordArgs), mendable},
		{&s.Renew, "renew", RenewKeys(q, ""), new(RenewArgs), mendable},
		{&s.Rewind, "rewind", []string{q.Ticks}, new(RewindArgs), !mendable},
		{&s.Stage, "stage", StageKeys(q, wire.StageOpens), new(StageArgs), mendable},
		{&s.Start, "start", StartKeys(q, "", ""), new(StartArgs), mendable},
		{&s.Started, "started", BeginKeys(q, ""), none, mendable},
		{&s.Survived, "survived", []string{q.Raised("")}, new(SurvivedArgs), !mendable},
		{&s.Take, "take", TakeKeys(q, ""), new(TakeArgs), mendable},
		{&s.Unstage, "unstage", UnstageKeys(q, wire.StageOpens), new(UnstageArgs), mendable},
		{&s.Watch, "watch", nil, new(WatchArgs), !mendable},
	}
}

// Load returns the scripts as they are sent. It returns an error if one has a name for a key
// or an argument that is not there, or does not use one that is.
var Load = sync.OnceValues(func() (*Scripts, error) {
	s := new(Scripts)
	var failed []error
	q := wire.NewQueueKeys("", "")
	for _, l := range s.list(&q) {
		loaded, err := loadScript(l.file, keyNames(&q, l.keys), l.args)
		if err != nil {
			failed = append(failed, fmt.Errorf("script %s.lua: %w", l.file, err))
		}
		loaded.Mendable = l.mendable
		*l.to = loaded
	}
	return s, errors.Join(failed...)
})

// All returns the scripts by the names of their files.
func (s *Scripts) All() map[string]*Script {
	all := map[string]*Script{}
	q := wire.NewQueueKeys("", "")
	for _, l := range s.list(&q) {
		all[l.file] = l.to
	}
	return all
}

// loadScript reads a script of a file, with the files that its lines
// "-- include <file>" name.
func loadScript(name string, keys []string, args Arguments) (Script, error) {
	source, err := withIncludes(name+".lua", map[string]bool{})
	if err != nil {
		return Script{}, err
	}
	named, err := argNames(args)
	if err != nil {
		return Script{}, err
	}
	source, err = resolve(source, keys, named)
	if err != nil {
		return Script{}, err
	}
	return New(source), nil
}

// withIncludes returns the text of a file in which each line "-- include <file>" is
// that file, the first time that it stands there.
func withIncludes(file string, seen map[string]bool) (string, error) {
	text, err := files.ReadFile(path.Clean(file))
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		other, ok := strings.CutPrefix(line, "-- include ")
		if !ok {
			out.WriteString(line)
			continue
		}
		other = strings.TrimSpace(other)
		if seen[other] {
			continue
		}
		seen[other] = true
		included, err := withIncludes("include/"+other, seen)
		if err != nil {
			return "", fmt.Errorf("include: %w", err)
		}
		out.WriteString(included)
	}
	return out.String(), nil
}
