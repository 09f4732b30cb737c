// Package before is the version that was deployed until now.
package before

import "context"

// SendLetter sends a letter.
//
//task:io
//task:result 1m
func SendLetter(ctx context.Context, address string) (string, error) {
	return "a letter to " + address, nil
}
