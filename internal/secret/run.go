package secret

import (
	"reflect"
	"sync"
)

// Params are the parameters of a task that has secret ones.
type Params interface {
	// IsSecret reports whether the parameter that travels under a key, which may be an
	// old one, is secret.
	IsSecret(key string) bool
	// Form returns the wire form of all parameters.
	Form() string
	// Decode returns the secret parameters of a payload, none if the payload does not
	// fit the task. It may panic.
	Decode(payload []byte) []reflect.Value
}

// Run are the secrets of a run. They are looked for when they are first needed: most
// runs end well and write nothing. Its methods work on nil, which has none, and may be
// called concurrently.
type Run struct {
	params  Params
	payload []byte

	once  sync.Once
	found *Values
}

// NewRun returns the secrets of a run.
func NewRun(params Params, payload []byte) *Run { return &Run{params: params, payload: payload} }

// Values returns the secret values.
func (r *Run) Values() *Values {
	if r == nil {
		return nil
	}
	r.once.Do(func() { r.found = find(r.params, r.payload) })
	return r.found
}

// Hide returns text with *** in place of secret values.
func (r *Run) Hide(text string) string { return r.Values().Hide(text) }
