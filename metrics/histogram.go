package metrics

import (
	"math"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// defaultBuckets are the upper bounds of the classic buckets, in seconds.
var defaultBuckets = []float64{
	.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 1800, 3600,
}

// The native buckets: each power of two is divided into 8, so that a bucket is 9 % wider
// than the one before.
const (
	nativeSchema = 3
	nativeParts  = 1 << nativeSchema
	minOctave    = -20 // shorter times, below a microsecond, are counted as zero
	maxOctave    = 22  // longer ones, of more than 48 days, are counted as that
	maxNative    = 100 // native buckets that are exposed; with more, neighbours are joined
)

// nativeBounds are the upper bounds of the parts of [0.5, 1).
var nativeBounds = func() (bounds [nativeParts]float64) {
	for i := range bounds {
		bounds[i] = math.Exp2(float64(i)/nativeParts - 1)
	}
	return bounds
}()

// histogram counts durations in classic and native buckets. The lock of its series guards
// it. The zero value is empty.
type histogram struct {
	sum     float64 // seconds
	zero    uint64
	classic []uint64 // by the recorder's bounds; the last counts what is longer
	native  [maxOctave - minOctave + 1]*[nativeParts]uint64
}

// observe counts a duration. bounds are those of the recorder.
func (h *histogram) observe(d time.Duration, bounds []time.Duration) {
	d = max(d, 0)
	if h.classic == nil {
		h.classic = make([]uint64, len(bounds)+1)
	}
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.classic[i]++
	seconds := d.Seconds()
	h.sum += seconds
	octave, part, ok := nativeBucket(seconds)
	if !ok {
		h.zero++
		return
	}
	parts := h.native[octave]
	if parts == nil {
		parts = new([nativeParts]uint64)
		h.native[octave] = parts
	}
	parts[part]++
}

// nativeBucket returns the place of a native bucket, false for the one of zero.
func nativeBucket(seconds float64) (octave, part int, ok bool) {
	frac, exp := math.Frexp(seconds)
	for part < nativeParts && frac > nativeBounds[part] {
		part++
	}
	// The bucket with index i holds times up to 2^(i/8) s.
	index := part + (exp-1)*nativeParts
	if index <= minOctave*nativeParts || seconds == 0 {
		return 0, 0, false
	}
	at := min(index-minOctave*nativeParts, len(histogram{}.native)*nativeParts-1)
	return at / nativeParts, at % nativeParts, true
}

// add adds what another histogram counted.
func (h *histogram) add(other *histogram) {
	h.sum += other.sum
	h.zero += other.zero
	if h.classic == nil && other.classic != nil {
		h.classic = make([]uint64, len(other.classic))
	}
	for i, n := range other.classic {
		h.classic[i] += n
	}
	for i, parts := range other.native {
		if parts == nil {
			continue
		}
		if h.native[i] == nil {
			h.native[i] = new([nativeParts]uint64)
		}
		for j, n := range parts {
			h.native[i][j] += n
		}
	}
}

// proto returns the histogram as Prometheus reads it. The text format shows the classic
// buckets alone.
func (h *histogram) proto(bounds []time.Duration, created time.Time) *dto.Histogram {
	out := &dto.Histogram{SampleSum: new(h.sum), ZeroThreshold: new(math.Exp2(minOctave)), ZeroCount: new(h.zero), CreatedTimestamp: timestamppb.New(created)}
	var count uint64
	for i, bound := range bounds {
		if h.classic != nil {
			count += h.classic[i]
		}
		out.Bucket = append(out.Bucket, &dto.Bucket{CumulativeCount: new(count), UpperBound: new(bound.Seconds())})
	}
	if h.classic != nil {
		count += h.classic[len(bounds)]
	}
	out.SampleCount = new(count)
	h.protoNative(out)
	return out
}

// indexed is a native bucket with observations.
type indexed struct {
	index int
	count uint64
}

// protoNative adds the native buckets.
func (h *histogram) protoNative(out *dto.Histogram) {
	var buckets []indexed
	for i, parts := range h.native {
		if parts == nil {
			continue
		}
		for j, n := range parts {
			if n > 0 {
				buckets = append(buckets, indexed{(i+minOctave)*nativeParts + j, n})
			}
		}
	}
	schema := int32(nativeSchema)
	for ; len(buckets) > maxNative; schema-- {
		buckets = joinPairs(buckets)
	}
	out.Schema = new(schema)
	next, before := 0, int64(0)
	for i, b := range buckets {
		if last := len(out.PositiveSpan) - 1; i > 0 && b.index == next {
			*out.PositiveSpan[last].Length++
		} else {
			out.PositiveSpan = append(out.PositiveSpan, &dto.BucketSpan{Offset: new(int32(b.index - next)), Length: new(uint32(1))})
		}
		out.PositiveDelta = append(out.PositiveDelta, int64(b.count)-before)
		next, before = b.index+1, int64(b.count)
	}
	if len(buckets) == 0 { // a span without length tells that the histogram is a native one
		out.PositiveSpan = []*dto.BucketSpan{{Offset: new(int32(0)), Length: new(uint32(0))}}
	}
}

// joinPairs returns the buckets of the next lower schema, in which each is twice as wide.
func joinPairs(buckets []indexed) []indexed {
	joined := slices.Clip(buckets[:0:0])
	for _, b := range buckets {
		index := (b.index + 1) >> 1
		if last := len(joined) - 1; last >= 0 && joined[last].index == index {
			joined[last].count += b.count
			continue
		}
		joined = append(joined, indexed{index, b.count})
	}
	return joined
}
