package inspect

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// maxCursor bounds the cursors that are read, in bytes.
const maxCursor = 4096

// cursor is where a page of several queues begins. It is text of letters, digits, - and _
// to all who hold it.
type cursor struct {
	Of    string       `json:"o"` // runs or dead
	State broker.State `json:"s,omitempty"`
	Queue string       `json:"q,omitempty"`
	After string       `json:"a,omitempty"` // in the queue, as the broker gave it

	// Of dead letters of several queues: those shown last.
	At time.Time `json:"t,omitzero"`
	ID string    `json:"i,omitempty"`
}

// The lists that a cursor can be of.
const (
	ofRuns = "r"
	ofDead = "d"
)

func (c *cursor) String() string {
	if c == nil {
		return ""
	}
	b, err := json.Marshal(c)
	if err != nil {
		return "" // it has text and times alone
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// readCursor reads a cursor of a list of runs or dead letters. Empty text is the beginning. The
// error is broker.ErrAfter.
func readCursor(text, of string) (*cursor, error) {
	if text == "" {
		return nil, nil
	}
	c, err := parseCursor(text)
	if err == nil && c.Of != of {
		err = broker.ErrAfter
	}
	if err != nil {
		return nil, fmt.Errorf("go on after %.64q: %w", text, err)
	}
	return c, nil
}

func parseCursor(text string) (*cursor, error) {
	if len(text) > maxCursor {
		return nil, broker.ErrAfter
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, broker.ErrAfter
	}
	c := new(cursor)
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil || d.More() {
		return nil, broker.ErrAfter
	}
	switch {
	case c.Queue != "" && CheckQueueName(c.Queue) != nil, c.Of == ofRuns && (c.Queue == "" || !slices.Contains(States, c.State)):
		return nil, broker.ErrAfter
	}
	return c, nil
}
