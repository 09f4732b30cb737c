package codec

import "fmt"

// CheckDepth returns an error if a value within depth arrays and maps is nested too
// deeply for any reader. Generated code calls it for types that contain themselves,
// whose values might be cyclic.
func CheckDepth(depth int) error {
	if depth >= MaxDepth {
		return errDepth()
	}
	return nil
}

func errDepth() error { return fmt.Errorf("encode value: nested more than %d deep", MaxDepth) }
