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

// files are the scripts, and the files that they include.
//
//go:embed *.lua include/*.lua
var files embed.FS

// Scripts are all scripts of the broker.
type Scripts struct {
	Enqueue, Take, Finish, EndWaiting, Renew, Heartbeat, Expired, Giveback Script
	MarkBegun, FreeUnique, RecordRunning, Spare                            Script
	Record, FindWaiting, CancelInFlight, Control, Watch, Outbox, Repair    Script
	Group, ForgetGroup, Pending, Stage, Commit, Unstage                    Script
	PutSchedule, DeleteSchedule, RestoreTick, Rewind, LastTicks, Schedules Script
	Announce, Instances, Tally, Tallies                                    Script

	SearchList, SearchSet, SearchBatches, SearchRecords, SearchEnded, WhichExist, QueueInfo Script
	EndRuns, RunNow, CancelRuns, FirstEntries                                               Script

	AuditBatches, AuditBury, AuditCopy, AuditGroups, AuditOwners, AuditCounts, AuditTurns Script
}

// loading describes a script: keys and args give the names of its keys and arguments.
type loading struct {
	to         *Script
	file       string // without .lua
	keys       []string
	args       Arguments
	repairable bool
}

const repairable = true

// list returns all scripts, with their keys in a queue.
func (s *Scripts) list(q *wire.QueueKeys) []loading {
	none := new(NoArgs)
	return []loading{
		{&s.Announce, "announce", []string{"instances"}, new(AnnounceArgs), !repairable},
		{&s.Instances, "instances", []string{"instances"}, new(InstancesArgs), !repairable},
		{&s.Tally, "tally", []string{q.Tally(0)}, new(TallyArgs), repairable},
		{&s.Tallies, "tallies", nil, new(TalliesArgs), !repairable},
		{&s.Heartbeat, "heartbeat", HeartbeatKeys(q, ""), new(HeartbeatArgs), repairable},
		{&s.AuditBatches, "auditbatches", []string{q.InFlight}, new(AuditArgs), !repairable},
		{&s.AuditBury, "auditbury", AuditBuryKeys(q, "place"), new(AuditBuryArgs), !repairable},
		{&s.AuditCopy, "auditcopy", AuditCopyKeys(q, "kept", "keptDone", "copy", "copyDone"), new(AuditCopyArgs), !repairable},
		{&s.AuditCounts, "auditcounts", AuditCountsKeys(q), new(AuditCountsArgs), !repairable},
		{&s.AuditGroups, "auditgroups", AuditGroupsKeys(q), new(AuditGroupsArgs), !repairable},
		{&s.AuditOwners, "auditowners", AuditOwnersKeys(q), new(AuditOwnersArgs), !repairable},
		{&s.AuditTurns, "auditturns", AuditTurnsKeys(q), new(AuditTurnsArgs), !repairable},
		{&s.MarkBegun, "markbegun", MarkBegunKeys(q, ""), new(MarkBegunArgs), repairable},
		{&s.Commit, "commit", CommitKeys(q, wire.StageOpens, q.Group("")), new(CommitArgs), repairable},
		{&s.Control, "control", ControlKeys(q), new(ControlArgs), repairable},
		{&s.DeleteSchedule, "deleteschedule", ScheduleKeys(q), new(DeleteScheduleArgs), repairable},
		{&s.EndWaiting, "endwaiting", EndWaitingKeys(q, "place"), new(EndWaitingArgs), !repairable},
		{&s.Enqueue, "enqueue", EnqueueKeys(q), new(EnqueueArgs), !repairable},
		{&s.Expired, "expired", ExpiredKeys(q), new(ExpiredArgs), repairable},
		{&s.FindWaiting, "findwaiting", []string{"place"}, new(FindWaitingArgs), !repairable},
		{&s.Finish, "finish", FinishKeys(q), new(FinishArgs), !repairable},
		{&s.Giveback, "giveback", GivebackKeys(q, "", ""), new(GivebackArgs), repairable},
		{&s.RestoreTick, "restoretick", RestoreTickKeys(q), new(RestoreTickArgs), !repairable},
		{&s.Group, "group", GroupKeys(q, "", ""), new(GroupArgs), !repairable},
		{&s.ForgetGroup, "forgetgroup", []string{q.Group("")}, new(ForgetGroupArgs), !repairable},
		{&s.CancelInFlight, "cancelinflight", nil, new(CancelInFlightArgs), repairable},
		{&s.Repair, "repair", nil, none, !repairable},
		{&s.Outbox, "outbox", []string{"list"}, new(OutboxArgs), !repairable},
		{&s.Pending, "pending", PendingKeys(q, "", "", q.Unique("")), new(PendingArgs), !repairable},
		{&s.PutSchedule, "putschedule", ScheduleKeys(q), new(PutScheduleArgs), repairable},
		{&s.Record, "record", RecordKeys(q, ""), new(RecordArgs), repairable},
		{&s.Renew, "renew", RenewKeys(q, ""), new(RenewArgs), repairable},
		{&s.Rewind, "rewind", []string{q.Ticks}, new(RewindArgs), !repairable},
		{&s.LastTicks, "lastticks", nil, none, !repairable},
		{&s.Schedules, "schedules", nil, new(SchedulesArgs), !repairable},
		{&s.QueueInfo, "queueinfo", nil, new(QueueInfoArgs), !repairable},
		{&s.CancelRuns, "cancelruns", nil, new(CancelRunsArgs), !repairable},
		{&s.EndRuns, "endruns", EndWaitingKeys(q, "place"), new(EndRunsArgs), !repairable},
		{&s.RunNow, "runnow", RunNowKeys(q), new(RunNowArgs), !repairable},
		{&s.FirstEntries, "firstentries", nil, new(FirstEntriesArgs), !repairable},
		{&s.SearchBatches, "searchbatches", nil, new(SearchBatchesArgs), !repairable},
		{&s.SearchList, "searchlist", []string{"place"}, new(SearchListArgs), !repairable},
		{&s.SearchRecords, "searchrecords", nil, new(SearchRecordsArgs), !repairable},
		{&s.SearchEnded, "searchended", nil, new(SearchEndedArgs), !repairable},
		{&s.SearchSet, "searchset", []string{"place"}, new(SearchSetArgs), !repairable},
		{&s.Stage, "stage", StageKeys(q, wire.StageOpens), new(StageArgs), repairable},
		{&s.FreeUnique, "freeunique", FreeUniqueKeys(q, "", ""), new(FreeUniqueArgs), repairable},
		{&s.RecordRunning, "recordrunning", MarkBegunKeys(q, ""), new(RecordRunningArgs), repairable},
		{&s.Spare, "spare", []string{q.Raised("")}, new(SpareArgs), !repairable},
		{&s.Take, "take", TakeKeys(q, ""), new(TakeArgs), repairable},
		{&s.Unstage, "unstage", UnstageKeys(q, wire.StageOpens), new(UnstageArgs), repairable},
		{&s.WhichExist, "whichexist", nil, none, !repairable},
		{&s.Watch, "watch", nil, new(WatchArgs), !repairable},
	}
}

// Load returns the scripts as they are sent. It returns an error if a script has a name for a
// key or an argument that is not there, or does not use one that is.
var Load = sync.OnceValues(func() (*Scripts, error) {
	s := new(Scripts)
	var failed []error
	q := wire.NewQueueKeys("", "")
	for _, l := range s.list(&q) {
		loaded, err := loadScript(l.file, keyNames(&q, l.keys), l.args)
		if err != nil {
			failed = append(failed, fmt.Errorf("script %s.lua: %w", l.file, err))
		}
		loaded.Repairable = l.repairable
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

// loadScript reads a script with its includes, and resolves its names.
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

// withIncludes returns the text of a file. The first line "-- include <file>" of each included
// file is replaced by its text, further ones are removed.
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
