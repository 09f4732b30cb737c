package redis

import (
	"embed"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"

	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// scriptFiles are the scripts, and what several of them include.
//
//go:embed *.lua
var scriptFiles embed.FS

type scripts struct {
	enqueue, take, started, finish, renew, expired, giveback, record         script.Script
	begin, control, find, mark, attend, group, parked, putEntry, deleteEntry script.Script
	outbox, start, watch, mend, rewind, survived, stage, commit, unstage     script.Script
	goOn                                                                     script.Script

	auditBatches, auditBury, auditCopy, auditOwners, auditCounts, auditTurns script.Script
}

// loading is what a script is loaded with: the function that makes its keys and the struct
// of its arguments give their names.
type loading struct {
	to       *script.Script
	file     string
	keys     []string
	args     arguments
	mendable bool
}

const mendable = true

// list returns all scripts, with their keys in a queue.
func (s *scripts) list(q *queue) []loading {
	none := new(noArgs)
	return []loading{
		{&s.attend, "attend", attendKeys(q, ""), new(attendArgs), mendable},
		{&s.auditBatches, "auditbatches", []string{q.Flights}, new(auditArgs), !mendable},
		{&s.auditBury, "auditbury", auditBuryKeys(q, "place"), new(auditBuryArgs), !mendable},
		{&s.auditCopy, "auditcopy", auditCopyKeys(q, "kept", "keptDone", "copy", "copyDone"), new(auditCopyArgs), !mendable},
		{&s.auditCounts, "auditcounts", auditCountsKeys(q), new(auditCountsArgs), !mendable},
		{&s.auditOwners, "auditowners", auditOwnersKeys(q), new(auditOwnersArgs), !mendable},
		{&s.auditTurns, "auditturns", auditTurnsKeys(q), new(auditTurnsArgs), !mendable},
		{&s.begin, "begin", beginKeys(q, ""), new(beginArgs), mendable},
		{&s.commit, "commit", commitKeys(q, wire.StageOpens, q.Group("")), new(commitArgs), mendable},
		{&s.control, "control", controlKeys(q), new(controlArgs), mendable},
		{&s.deleteEntry, "deleteentry", entryKeys(q), new(deleteEntryArgs), mendable},
		{&s.enqueue, "enqueue", enqueueKeys(q), new(enqueueArgs), !mendable},
		{&s.expired, "expired", expiredKeys(q), new(expiredArgs), mendable},
		{&s.find, "find", []string{"place"}, new(findArgs), !mendable},
		{&s.finish, "finish", finishKeys(q), new(finishArgs), !mendable},
		{&s.giveback, "giveback", givebackKeys(q, "", ""), new(givebackArgs), mendable},
		{&s.goOn, "goon", goOnKeys(q), new(goOnArgs), !mendable},
		{&s.group, "group", []string{q.Group("")}, new(groupArgs), !mendable},
		{&s.mark, "mark", nil, new(markArgs), mendable},
		{&s.mend, "mend", nil, none, !mendable},
		{&s.outbox, "outbox", []string{"list"}, new(outboxArgs), !mendable},
		{&s.parked, "parked", parkedKeys(q, "", q.Unique("")), new(parkedArgs), !mendable},
		{&s.putEntry, "putentry", entryKeys(q), new(putEntryArgs), mendable},
		{&s.record, "record", recordKeys(q, ""), new(recordArgs), mendable},
		{&s.renew, "renew", renewKeys(q, ""), new(renewArgs), mendable},
		{&s.rewind, "rewind", []string{q.Ticks}, new(rewindArgs), !mendable},
		{&s.stage, "stage", stageKeys(q, wire.StageOpens), new(stageArgs), mendable},
		{&s.start, "start", startKeys(q, "", ""), new(startArgs), mendable},
		{&s.started, "started", beginKeys(q, ""), none, mendable},
		{&s.survived, "survived", []string{q.Raised("")}, new(survivedArgs), !mendable},
		{&s.take, "take", takeKeys(q, ""), new(takeArgs), mendable},
		{&s.unstage, "unstage", unstageKeys(q, wire.StageOpens), new(unstageArgs), mendable},
		{&s.watch, "watch", nil, new(watchArgs), !mendable},
	}
}

// loadScripts returns the scripts as they are sent.
var loadScripts = sync.OnceValues(func() (*scripts, error) {
	s := new(scripts)
	var failed []error
	q := new(Broker).keysOf("")
	for _, l := range s.list(q) {
		loaded, err := loadScript(l.file, keyNames(q, l.keys), l.args)
		if err != nil {
			failed = append(failed, fmt.Errorf("script %s.lua: %w", l.file, err))
		}
		loaded.Mendable = l.mendable
		*l.to = loaded
	}
	return s, errors.Join(failed...)
})

// loadScript reads a script of a file, with the files that its lines
// "-- include <file>" name.
func loadScript(name string, keys []string, args arguments) (script.Script, error) {
	source, err := withIncludes(name+".lua", map[string]bool{})
	if err != nil {
		return script.Script{}, err
	}
	named, err := argNames(args)
	if err != nil {
		return script.Script{}, err
	}
	source, err = resolve(source, keys, named)
	if err != nil {
		return script.Script{}, err
	}
	return script.New(source), nil
}

// withIncludes returns the text of a file in which each line "-- include <file>" is
// that file, the first time that it stands there.
func withIncludes(file string, seen map[string]bool) (string, error) {
	text, err := scriptFiles.ReadFile(path.Clean(file))
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
		included, err := withIncludes(other, seen)
		if err != nil {
			return "", fmt.Errorf("include: %w", err)
		}
		out.WriteString(included)
	}
	return out.String(), nil
}
