package broker

import "strings"

// ProgramLimits are the limits of a consumer's program. They hold in place of the numbers that
// runs bring, so that a changed limit holds for what is queued already. If programs of two
// versions take from a queue, the numbers of the newer one hold for both while it is at work.
// They are not changed once a [Want] has them.
type ProgramLimits struct {
	Version int64            // the greater is the newer; not negative
	Limits  map[string]Limit // by their stems, see [LimitStem]; the Key of each is not used
}

// smoothSuffix ends the key of a limit that spreads the starts of a rate.
const smoothSuffix = "/smooth"

// stemDigest is the length of the digest in a limit's key.
const stemDigest = 22

// LimitStem returns a limit's key with * in place of the digest of the values that it depends
// on. The number of a limit is the same for all values.
func LimitStem(key string) string {
	rest, smooth := strings.CutSuffix(key, smoothSuffix)
	if at := len(rest) - stemDigest; at > 0 && rest[at-1] == '/' && !strings.Contains(rest[at:], "/") {
		rest = rest[:at] + "*"
	}
	if smooth {
		rest += smoothSuffix
	}
	return rest
}

// Of returns the numbers that hold for a limit that a run brings and its stem: those of the
// program if it has some, else the run's own.
func (p *ProgramLimits) Of(stem string, asked Limit) Limit {
	if p == nil {
		return asked
	}
	if l, ok := p.Limits[stem]; ok && l.Max >= 1 && (l.Per > 0) == (asked.Per > 0) {
		asked.Max, asked.Per = l.Max, l.Per
	}
	return asked
}
