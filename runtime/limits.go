package runtime

import (
	"fmt"
	"math"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
)

// CodecLimits bound what a consumer decodes, as whoever can write to the broker may have
// stored it. A run beyond them becomes a dead letter of kind [Schema]. Its zero value
// works.
type CodecLimits struct {
	// Payload is the size in bytes beyond which a run's parameters, with those of its
	// follow-ups, are not decoded. A follow-up may have a result of up to MaxResult
	// more. The run that gathers a [Group] has a bound of its own. Defaults to 1 MiB,
	// or to what the consumer's tasks may queue if that is more: MaxPayload, or that of
	// a client in Run's context.
	Payload int
	// Memory is how many bytes of memory the decoding of one run's parameters may take,
	// in a child process too. The memory that a type's own methods take is estimated.
	// Defaults to 16 times Payload.
	Memory int
}

func (l *CodecLimits) check() error {
	if l.Payload < 0 {
		return fmt.Errorf("field Payload is %d, it cannot be negative", l.Payload)
	}
	if l.Memory < 0 {
		return fmt.Errorf("field Memory is %d, it cannot be negative", l.Memory)
	}
	return nil
}

// setDefaults takes what runs may be queued with.
func (l *CodecLimits) setDefaults(payloads ...int) {
	if l.Payload != 0 {
		return
	}
	l.Payload = defaultMaxPayload
	for _, n := range payloads {
		l.Payload = max(l.Payload, n)
	}
}

// checkSize refuses a run that is too large to be decoded.
func (l *CodecLimits) checkSize(run *broker.TaskRun, maxResult int) error {
	most := l.Payload
	if run.ParentID != "" {
		most += min(maxResult, math.MaxInt-most) // of the run that it may follow
	}
	if size := totalPayload(run); size > most {
		return fmt.Errorf("the parameters take %d bytes, at most %d are decoded; ConsumerConfig.Codec.Payload sets the limit", size, most)
	}
	return nil
}

// memory is what the decoding of a payload may take.
func (l *CodecLimits) memory(payload []byte) int {
	if l.Memory > 0 {
		return l.Memory
	}
	return codec.MemoryFactor * min(max(l.Payload, len(payload)), math.MaxInt/codec.MemoryFactor)
}

// totalPayload is how many bytes the parameters of a run and of what follows it take. Members
// of groups count by themselves.
func totalPayload(run *broker.TaskRun) int {
	size := len(run.Payload)
	if run.Links == nil {
		return size
	}
	for _, c := range run.Links.Then {
		size += totalPayload(c.Run)
	}
	return size
}

const defaultMaxPayload = 1 << 20
