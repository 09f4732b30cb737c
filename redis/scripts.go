package redis

import (
	"embed"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
)

// scriptFiles are the scripts, and what several of them include.
//
//go:embed *.lua
var scriptFiles embed.FS

type scripts struct {
	enqueue, take, started, finish, renew, expired, giveback, record, audit  script
	begin, control, find, mark, attend, group, parked, putEntry, deleteEntry script
	outbox, start, watch, mend, rewind, survived, stage, commit, unstage     script
	goOn                                                                     script

	texts map[string]string // as they are sent, by the names of their files
}

// loadScripts returns the scripts as they are sent. Each is loaded with the function that
// makes its keys and the struct of its arguments, from which it has their names.
var loadScripts = sync.OnceValues(func() (scripts, error) {
	s := scripts{texts: map[string]string{}}
	var failed []error
	q := new(Broker).keysOf("")
	load := func(to *script, name string, keys []string, args arguments, mendable bool) {
		loaded, err := loadScript(name, keyNames(q, keys), args)
		if err != nil {
			failed = append(failed, fmt.Errorf("script %s.lua: %w", name, err))
		}
		loaded.mendable = mendable
		*to = loaded
		s.texts[name] = loaded.source
	}
	const mends = true
	none := new(noArgs)
	load(&s.attend, "attend", attendKeys(q, ""), new(attendArgs), mends)
	load(&s.audit, "audit", nil, none, false)
	load(&s.begin, "begin", beginKeys(q, ""), new(beginArgs), mends)
	load(&s.commit, "commit", commitKeys(q, stageOpens, q.group("")), new(commitArgs), mends)
	load(&s.control, "control", controlKeys(q), new(controlArgs), mends)
	load(&s.deleteEntry, "deleteentry", entryKeys(q), new(deleteEntryArgs), mends)
	load(&s.enqueue, "enqueue", enqueueKeys(q), new(enqueueArgs), false)
	load(&s.expired, "expired", expiredKeys(q), new(expiredArgs), mends)
	load(&s.find, "find", []string{"place"}, new(findArgs), false)
	load(&s.finish, "finish", finishKeys(q), new(finishArgs), false)
	load(&s.giveback, "giveback", givebackKeys(q, "", ""), new(givebackArgs), mends)
	load(&s.goOn, "goon", goOnKeys(q), new(goOnArgs), false)
	load(&s.group, "group", []string{q.group("")}, new(groupArgs), false)
	load(&s.mark, "mark", nil, new(markArgs), mends)
	load(&s.mend, "mend", nil, none, false)
	load(&s.outbox, "outbox", []string{"list"}, new(outboxArgs), false)
	load(&s.parked, "parked", parkedKeys(q, "", q.unique("")), new(parkedArgs), false)
	load(&s.putEntry, "putentry", entryKeys(q), new(putEntryArgs), mends)
	load(&s.record, "record", recordKeys(q, ""), new(recordArgs), mends)
	load(&s.renew, "renew", renewKeys(q, ""), new(renewArgs), mends)
	load(&s.rewind, "rewind", []string{q.ticks}, new(rewindArgs), false)
	load(&s.stage, "stage", stageKeys(q, stageOpens), new(stageArgs), mends)
	load(&s.start, "start", startKeys(q, "", ""), new(startArgs), mends)
	load(&s.started, "started", beginKeys(q, ""), none, mends)
	load(&s.survived, "survived", []string{q.raised("")}, new(survivedArgs), false)
	load(&s.take, "take", takeKeys(q, ""), new(takeArgs), mends)
	load(&s.unstage, "unstage", unstageKeys(q, stageOpens), new(unstageArgs), mends)
	load(&s.watch, "watch", nil, new(watchArgs), false)
	return s, errors.Join(failed...)
})

// loadScript reads a script of a file, with the files that its lines
// "-- include <file>" name.
func loadScript(name string, keys []string, args arguments) (script, error) {
	source, err := withIncludes(name+".lua", map[string]bool{})
	if err != nil {
		return script{}, err
	}
	named, err := argNames(args)
	if err != nil {
		return script{}, err
	}
	source, err = resolve(source, keys, named)
	if err != nil {
		return script{}, err
	}
	return newScript(source), nil
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
