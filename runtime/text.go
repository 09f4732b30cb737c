package runtime

import "github.com/taskgen/taskgen/internal/text"

// mostListed is how many names a line of log or an error lists.
const mostListed = 5

func count(n int, thing string) string { return text.Count(n, thing) }

func firstOf(names []string, most int) string { return text.List(names, most) }

func someOf(names []string) string { return text.List(names, mostListed) }
