package redis

import "strings"

// Instrument puts a text before each script of the broker, behind its first line, with
// "NAME" in it replaced by the script's name. It is called before the broker is used.
func (b *Broker) Instrument(text string) {
	s := &b.scripts
	for name, script := range map[string]*script{
		"enqueue": &s.enqueue, "take": &s.take, "started": &s.started, "finish": &s.finish, "renew": &s.renew,
		"expired": &s.expired, "giveback": &s.giveback, "record": &s.record, "begin": &s.begin, "control": &s.control,
		"mark": &s.mark, "attend": &s.attend, "group": &s.group, "parked": &s.parked, "start": &s.start,
		"putentry": &s.putEntry, "deleteentry": &s.deleteEntry,
		"stage": &s.stage, "commit": &s.commit, "unstage": &s.unstage, "mend": &s.mend, "audit": &s.audit,
	} {
		first, rest, _ := strings.Cut(script.source, "\n")
		mendable := script.mendable
		*script = newScript(first + "\n" + strings.ReplaceAll(text, "NAME", name) + "\n" + rest)
		script.mendable = mendable
	}
}

// ScriptText returns a script as it is sent.
func (b *Broker) ScriptText(name string) string { return b.scripts.texts[name] }

// Unmendable has the broker put no keys aside.
func (b *Broker) Unmendable() {
	b.scripts.mend = newScript("#!lua\nreturn {}")
}
