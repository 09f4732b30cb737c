package script

// The steps of an outcome, by the letters that stand for them on the wire. Scripts name
// them STEP.FREE_ID and so on (include/steps.lua).
const (
	StepFreeID        = 'i' // the run's id is free again
	StepFreeUnique    = 'u' // the unique key is free again, if it is this run's
	StepReleaseLimits = 'l' // the run counts no more at its limits
	StepReady         = 'h' // back to the head of its ready list, or of its backlog
	StepDelay         = 'd' // back, due after a delay
	StepWake          = 'w' // wakes a consumer, which learns when the first run is due
	StepBury          = 'x' // adds a dead letter
	StepRecord        = 'r' // sets the record of a run that goes on
	StepEndRecord     = 'e' // sets the record of a run that has ended
	StepSend          = 'o' // adds an entry to the outbox
	StepEndMember     = 'g' // notes the end of a member of a group
	StepIfCancelled   = 'c' // the first step: does the next ones if a cancel of the run is stored, else the rest
)

// stepNames are the names of the steps in scripts.
var stepNames = map[string]byte{
	"FREE_ID":        StepFreeID,
	"FREE_UNIQUE":    StepFreeUnique,
	"RELEASE_LIMITS": StepReleaseLimits,
	"READY":          StepReady,
	"DELAY":          StepDelay,
	"WAKE":           StepWake,
	"BURY":           StepBury,
	"RECORD":         StepRecord,
	"END_RECORD":     StepEndRecord,
	"SEND":           StepSend,
	"END_MEMBER":     StepEndMember,
	"IF_CANCELLED":   StepIfCancelled,
}
