package codec

import "fmt"

// CheckDepth returns an error when so many arrays and maps are around a value
// about to be appended that no reader would read it. Generated code asks it for
// types that contain themselves: a value that contains itself would never end.
func CheckDepth(depth int) error {
	if depth >= MaxDepth {
		return errDepth()
	}
	return nil
}

func errDepth() error { return fmt.Errorf("encode value: nested more than %d deep", MaxDepth) }
