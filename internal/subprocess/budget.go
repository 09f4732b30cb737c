package subprocess

const (
	maxOutput = 16 << 20 // bytes of a run's lines or records that are logged
	perLine   = 128      // bytes that each counts for besides its text: a logged one has attributes
)

// TooManyRecords is logged of a run that has logged more records than its budget.
const TooManyRecords = "the run logged more records than are kept"

// Budget bounds what one run may have logged through one channel. Its zero value is
// that of a run that has logged nothing.
type Budget struct {
	used     int // bytes, with perLine for each line or record
	cut      int // lines or records beyond maxOutput
	cutBytes int // their bytes
}

// Take reports whether a line or a record of a size may be logged. After one that
// may not there are no more.
func (b *Budget) Take(size int) bool {
	if b.cut == 0 && b.used+size+perLine <= maxOutput {
		b.used += size + perLine
		return true
	}
	b.cut++
	b.cutBytes += size
	return false
}

// Cut returns how many lines or records were beyond the budget, and their bytes.
func (b *Budget) Cut() (n, size int) { return b.cut, b.cutBytes }
