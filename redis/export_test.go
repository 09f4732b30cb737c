package redis

import (
	"strings"

	"github.com/taskgen/taskgen/redis/internal/script"
)

// Instrument puts a text before each script of the broker, behind its first line, with
// "NAME" in it replaced by the script's name. It is called before the broker is used.
func (b *Broker) Instrument(text string) {
	for _, l := range b.scripts.list(b.keysOf("")) {
		first, rest, _ := strings.Cut(l.to.Source, "\n")
		*l.to = script.New(first + "\n" + strings.ReplaceAll(text, "NAME", l.file) + "\n" + rest)
		l.to.Mendable = l.mendable
	}
}

// ScriptText returns a script as it is sent.
func (b *Broker) ScriptText(name string) string {
	for _, l := range b.scripts.list(b.keysOf("")) {
		if l.file == name {
			return l.to.Source
		}
	}
	return ""
}

// Unmendable has the broker put no keys aside.
func (b *Broker) Unmendable() {
	b.scripts.mend = script.New("#!lua\nreturn {}")
}
