package redis

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"slices"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// cursor is where a page of a search ended.
type cursor struct {
	place int // among those that the search goes through

	// In a list: the index of the last entry that was read, and how many were behind it.
	// Others take from the head and push to the tail, so anchors identify the last entries
	// that were read and stayed.
	at, behind int64
	seeking    bool // no anchor was found so far
	anchors    []anchor
	stays      []anchor // those of them that a change leaves there

	// In a sorted set: the score of the last entry, and what opens it.
	score, opens string

	// In batches in flight: the last batch, and the index in it. In a list of runs that have ended:
	// the id that was read last, and the index of its entry.
	name  string
	index int64
}

// anchor opens the digest of an entry.
type anchor [8]byte

// maxAnchors is how many entries a cursor identifies: each may be taken or removed before the
// next page is read.
const maxAnchors = 12

// encode returns the cursor as text. of says of which search it is.
func (c *cursor) encode(of string) string {
	b := []byte{1}
	seeking := uint64(0)
	if c.seeking {
		seeking = 1
	}
	for _, n := range []uint64{uint64(c.place), uint64(c.at + 1), uint64(c.behind), seeking, uint64(c.index + 1)} {
		b = binary.AppendUvarint(b, n)
	}
	for _, s := range []string{c.score, c.opens, c.name} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	for _, a := range c.anchors {
		b = append(b, a[:]...)
	}
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(b, checkOf(of, b)))
}

func checkOf(of string, b []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE([]byte(of)), crc32.IEEETable, b)
}

// parseCursor parses the cursor of a search with so many places. An empty text is its
// beginning. The error is broker.ErrAfter.
func parseCursor(of, text string, places int) (*cursor, error) {
	c := &cursor{at: -1, index: -1}
	if text == "" {
		return c, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) < 5 || b[0] != 1 {
		return nil, broker.ErrAfter
	}
	b, check := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if check != checkOf(of, b) {
		return nil, broker.ErrAfter
	}
	b = b[1:]
	var ns [5]uint64
	for i := range ns {
		n, size := binary.Uvarint(b)
		if size <= 0 {
			return nil, broker.ErrAfter
		}
		ns[i], b = n, b[size:]
	}
	var texts [3]string
	for i := range texts {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return nil, broker.ErrAfter
		}
		texts[i], b = string(b[size:size+int(n)]), b[size+int(n):]
	}
	const most = 1 << 62
	if ns[0] >= uint64(places) || ns[1] > most || ns[2] > most || ns[4] > most || len(b)%len(anchor{}) != 0 || len(b) > maxAnchors*len(anchor{}) {
		return nil, broker.ErrAfter
	}
	c.place, c.at, c.behind, c.seeking, c.index = int(ns[0]), int64(ns[1])-1, int64(ns[2]), ns[3] == 1, int64(ns[4])-1
	c.score, c.opens, c.name = texts[0], texts[1], texts[2]
	for a := range slices.Chunk(b, len(anchor{})) {
		c.anchors = append(c.anchors, anchor(a))
	}
	c.stays = slices.Clone(c.anchors)
	return c, nil
}

// next moves the cursor to the beginning of the next place.
func (c *cursor) next() { *c = cursor{place: c.place + 1, at: -1, index: -1} }

// passed notes that an entry of a list was read, and whether it stays.
func (c *cursor) passed(a anchor, stays bool) {
	c.anchors = addAnchor(c.anchors, a)
	if stays {
		c.stays = addAnchor(c.stays, a)
	}
}

func addAnchor(list []anchor, a anchor) []anchor {
	if len(list) >= maxAnchors {
		list = slices.Delete(list, 0, len(list)-maxAnchors+1)
	}
	return append(list, a)
}

// removed notes that so many of the entries of a list are gone that were read.
func (c *cursor) removed(n int64) { c.at, c.anchors = max(c.at-n, -1), c.stays }

// anchorOf identifies an entry of a list as searchlist.lua does.
func anchorOf(entry string, isDead bool) (a anchor) {
	died := ""
	if isDead {
		size := 0
		if len(entry) >= wire.TimeDigits+4 {
			size = int(binary.BigEndian.Uint32([]byte(entry[wire.TimeDigits:])))
		}
		died = entry[:min(wire.TimeDigits, len(entry))]
		entry = entry[min(uint64(wire.TimeDigits+4)+uint64(size), uint64(len(entry))):]
	}
	end := wire.HeaderSize
	if len(entry) >= wire.HeaderSize {
		end += int(entry[wire.HeaderSize-1])
	}
	sum := sha1.Sum([]byte(died + entry[:min(end, len(entry))]))
	copy(a[:], sum[:])
	return a
}

func (a anchor) String() string { return hex.EncodeToString(a[:]) }
