package redis

// The steps of the finish script, by the letters that stand for them on the wire. Its
// file calls them STEP.FREE_ID and so on.
const (
	stepFreeID          = 'i' // the run's id is free again
	stepFreeUnique      = 'u' // the unique key is free again, if it is this run's
	stepReleaseLimits   = 'l' // the run counts no more at its limits
	stepReady           = 'h' // back to the head of its ready list, or of its line
	stepDelay           = 'd' // back, due after a delay
	stepWake            = 'w' // wakes a consumer, which learns when the first run is due
	stepBury            = 'x' // adds a dead letter
	stepRecord          = 'r' // sets the record of a run that goes on
	stepEndRecord       = 'e' // sets the record of a run that has ended
	stepSend            = 'o' // adds an entry to the outbox
	stepEndMember       = 'g' // notes the end of a member of a group
	stepUnlessCancelled = 'c' // does some of the steps behind it only if the run's end was asked for, others only if not
)

// stepNames are what the finish script calls its steps.
var stepNames = map[string]byte{
	"FREE_ID":          stepFreeID,
	"FREE_UNIQUE":      stepFreeUnique,
	"RELEASE_LIMITS":   stepReleaseLimits,
	"READY":            stepReady,
	"DELAY":            stepDelay,
	"WAKE":             stepWake,
	"BURY":             stepBury,
	"RECORD":           stepRecord,
	"END_RECORD":       stepEndRecord,
	"SEND":             stepSend,
	"END_MEMBER":       stepEndMember,
	"UNLESS_CANCELLED": stepUnlessCancelled,
}
