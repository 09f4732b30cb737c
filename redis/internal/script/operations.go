package script

// The operations of an outcome, by the letters that stand for them on the wire. Scripts name
// them OP.FREE_ID and so on (include/operations.lua).
const (
	OpFreeID        = 'i' // the run's id is free again
	OpFreeUnique    = 'u' // the unique key is free again, if it is this run's
	OpReleaseLimits = 'l' // the run counts no more at its limits
	OpReady         = 'h' // back to the head of its ready list, or of its backlog
	OpDelay         = 'd' // back, due after a delay
	OpWake          = 'w' // wakes a consumer, which learns when the first run is due
	OpBury          = 'x' // adds a dead letter
	OpRecord        = 'r' // sets the record of a run that goes on
	OpEndRecord     = 'e' // sets the record of a run that has ended
	OpSend          = 'o' // adds an entry to the outbox
	OpEndMember     = 'g' // notes the end of a member of a group
	OpKeepGroup     = 'k' // keeps the group that the run gathered for so long
	OpIfCancelled   = 'c' // the first operation: does the next ones if a cancel of the run is stored, else the rest
)

// operations are the letters by their names in scripts.
var operations = map[string]string{
	"FREE_ID":        "'" + string(OpFreeID) + "'",
	"FREE_UNIQUE":    "'" + string(OpFreeUnique) + "'",
	"RELEASE_LIMITS": "'" + string(OpReleaseLimits) + "'",
	"READY":          "'" + string(OpReady) + "'",
	"DELAY":          "'" + string(OpDelay) + "'",
	"WAKE":           "'" + string(OpWake) + "'",
	"BURY":           "'" + string(OpBury) + "'",
	"RECORD":         "'" + string(OpRecord) + "'",
	"END_RECORD":     "'" + string(OpEndRecord) + "'",
	"SEND":           "'" + string(OpSend) + "'",
	"END_MEMBER":     "'" + string(OpEndMember) + "'",
	"KEEP_GROUP":     "'" + string(OpKeepGroup) + "'",
	"IF_CANCELLED":   "'" + string(OpIfCancelled) + "'",
}
