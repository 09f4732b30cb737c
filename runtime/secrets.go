package runtime

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/taskgen/taskgen/internal/secret"
)

// secretParams are the parameters of a task with secret ones, as package secret needs
// them.
type secretParams struct {
	names  []string // of the secret ones
	form   string   // the wire form of all
	values func(payload []byte) []reflect.Value
}

// IsSecret implements [secret.Params].
func (p secretParams) IsSecret(key string) bool {
	if slices.Contains(p.names, key) {
		return true
	}
	for _, param := range wireParams(p.form) {
		if slices.Contains(param.old, key) && slices.Contains(p.names, param.name) {
			return true
		}
	}
	return false
}

// Form implements [secret.Params].
func (p secretParams) Form() string { return p.form }

// Decode implements [secret.Params]. It returns nil if payloads are not to be decoded.
func (p secretParams) Decode(payload []byte) []reflect.Value {
	if p.values == nil {
		return nil
	}
	return p.values(payload)
}

// hideDecoding hides secret values in the error of decoding a payload.
func hideDecoding(params secretParams, payload []byte, err error) error {
	if len(params.names) == 0 {
		return err
	}
	return secret.HideDecoding(params, payload, err)
}

// encodeError returns the error of encoding parameters. If the task has secret parameters,
// it leaves out the text of err: a type's own method may quote a value.
func encodeError(err error, secrets []string) error {
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
