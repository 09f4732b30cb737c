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
	spec *Spec
	task *Task // nil: payloads are not decoded
}

// IsSecret implements [secret.Params].
func (p secretParams) IsSecret(key string) bool {
	if slices.Contains(p.spec.Secrets, key) {
		return true
	}
	for _, param := range wireParams(p.spec.Params) {
		if slices.Contains(param.Old, key) && slices.Contains(p.spec.Secrets, param.Name) {
			return true
		}
	}
	return false
}

// Form implements [secret.Params].
func (p secretParams) Form() string { return p.spec.Params }

// Decode implements [secret.Params].
func (p secretParams) Decode(payload []byte) (values []reflect.Value) {
	if p.task == nil {
		return nil
	}
	params, err := p.task.decode(payload)
	if err != nil {
		return nil
	}
	v := reflect.ValueOf(params).Elem()
	for _, param := range p.task.Params() { // none unless v is a struct
		if param.Secret {
			values = append(values, v.Field(param.Field))
		}
	}
	return values
}

// secretsOf returns the secrets of a run with a payload, nil if its task has no secret
// parameters.
func (t *Task) secretsOf(payload []byte) *secret.Run {
	if len(t.spec.Secrets) == 0 {
		return nil
	}
	return secret.NewRun(secretParams{&t.spec, t}, payload)
}

// hideDecoding hides secret values in the error of decoding a payload.
func (s *Spec) hideDecoding(payload []byte, err error) error {
	if len(s.Secrets) == 0 {
		return err
	}
	return secret.HideDecoding(secretParams{spec: s}, payload, err)
}

// encodeError returns the error of encoding parameters. If the task has secret parameters,
// it leaves out the error of a type's own method, which may quote one.
func (s *Spec) encodeError(err error) error {
	if len(s.Secrets) == 0 {
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
