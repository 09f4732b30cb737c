// Package tasks is the background work of a shop: the tasks that the examples in
// package runtime's documentation use.
package tasks

import (
	"context"
	"errors"
	"fmt"

	taskrt "github.com/taskgen/taskgen/runtime"
)

// Charge charges an order and returns the number of the receipt.
//
//task:io
//task:queue payments
func Charge(ctx context.Context, order string, cents int) (string, error) {
	if cents <= 0 {
		return "", taskrt.Permanent(errors.New("an order costs something"))
	}
	return "receipt-" + order, nil
}

// Mail mails a text.
//
//task:io
//task:result 1h
func Mail(ctx context.Context, text, to string) error {
	fmt.Printf("to %s: %s\n", to, text)
	return nil
}

// Pack packs the items of an order until it is cancelled.
//
//task:io
//task:result 1h
func Pack(ctx context.Context, order string, items int64) error {
	taskrt.Progress(ctx, 1, items, "took a box")
	<-ctx.Done()
	return context.Cause(ctx)
}

// Bill lists the receipts of a customer.
//
//task:io
func Bill(ctx context.Context, receipts []string, customer string) (string, error) {
	return fmt.Sprintf("%s: %d receipts, the first is %s", customer, len(receipts), receipts[0]), nil
}
