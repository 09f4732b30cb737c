package secret

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/taskgen/taskgen/internal/wireform"
)

// TaskParams are the parameters of a task with secret ones.
type TaskParams struct {
	Names    []string                             // of the secret ones
	WireForm string                               // of all
	Values   func(payload []byte) []reflect.Value // of the secret ones; nil: payloads are not to be decoded
}

// IsSecret implements [Params].
func (p TaskParams) IsSecret(key string) bool {
	if slices.Contains(p.Names, key) {
		return true
	}
	for _, param := range wireform.Params(p.WireForm) {
		if slices.Contains(param.Old, key) && slices.Contains(p.Names, param.Name) {
			return true
		}
	}
	return false
}

// Form implements [Params].
func (p TaskParams) Form() string { return p.WireForm }

// Decode implements [Params]. It returns nil if payloads are not to be decoded.
func (p TaskParams) Decode(payload []byte) []reflect.Value {
	if p.Values == nil {
		return nil
	}
	return p.Values(payload)
}

// EncodeError returns the error of encoding parameters. If the task has secret parameters,
// it leaves out the text of err: a type's own method may quote a value.
func EncodeError(err error, secrets []string) error {
	if len(secrets) == 0 {
		return fmt.Errorf("encode parameters: %w", err)
	}
	return &quietError{"encode parameters: a value cannot be encoded; why is not shown, for the task has secret parameters", err}
}

// quietError wraps an error without its text.
type quietError struct {
	text string
	err  error
}

func (e *quietError) Error() string { return e.text }
func (e *quietError) Unwrap() error { return e.err }
