package taskapp

import (
	"fmt"
	"os"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/taskgen/taskgen/internal/text"
)

// brief returns the printable start of a text, for a column of a table.
func brief(s string, most int) string {
	s = text.Printable(s)
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}

// orDash replaces empty text in a table.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func (c *commandLine) printJSON(v any) error {
	b, err := text.JSON(v)
	if err == nil {
		_, err = c.stdout.Write(append(b, '\n'))
	}
	return err
}

// age is how long ago something was, for people.
func age(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return span(max(time.Since(t), 0))
}

// span is a time for people: so many of its largest unit.
func span(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "<1ms"
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Truncate(100*time.Millisecond).Seconds(), 'f', -1, 64) + "s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d.Round(time.Second)/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d.Round(time.Minute)/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d.Round(time.Hour)/time.Hour)
	}
	const day = 24 * time.Hour
	return fmt.Sprintf("%dd", d.Round(day)/day)
}

// isTerminal reports whether a person reads, or writes, a file.
func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
