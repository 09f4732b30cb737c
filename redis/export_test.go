package redis

import (
	"strings"

	"github.com/taskgen/taskgen/redis/internal/script"
)

// Instrument puts a text before each script of the broker, behind its first line, with
// "NAME" in it replaced by the script's name. It is called before the broker is used.
func (b *Broker) Instrument(text string) {
	for name, s := range b.scripts.All() {
		first, rest, _ := strings.Cut(s.Source, "\n")
		repairable := s.Repairable
		*s = script.New(first + "\n" + strings.ReplaceAll(text, "NAME", name) + "\n" + rest)
		s.Repairable = repairable
	}
}

// ScriptText returns a script as it is sent.
func (b *Broker) ScriptText(name string) string { return b.scripts.All()[name].Source }

// Unrepairable keeps the broker from quarantining keys.
func (b *Broker) Unrepairable() {
	b.scripts.Repair = script.New("#!lua\nreturn {}")
}
