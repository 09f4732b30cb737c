// Package skew has two versions of one application's tasks, v1 and v2, deployed side
// by side.
package skew

import (
	"context"
	"fmt"
	"os"

	taskrt "github.com/taskgen/taskgen/runtime"
)

// LedgerEnv is the variable with the file to which each run appends a line.
const LedgerEnv = "SKEW_LEDGER"

// Note appends "id version attempt delivery" to the ledger, in one write.
func Note(ctx context.Context, version string) error {
	run, _ := taskrt.CurrentRun(ctx)
	f, err := os.OpenFile(os.Getenv(LedgerEnv), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return taskrt.Permanent(err)
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "%s %s %d %d\n", run.ID, version, run.Attempt, run.Delivery)
	return err
}
