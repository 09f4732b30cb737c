package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	taskrt "github.com/taskgen/taskgen/runtime"
)

//go:generate go tool taskgen

// SendReceipt mails the receipt of an order.
//
//task:io
//task:queue mail
//task:retry 2 backoff=5s..20s
//task:timeout 30s
//task:result 1h params
//task:tags mail customer
func SendReceipt(ctx context.Context, to string, orderID int64) error {
	if err := work(ctx, 200*time.Millisecond); err != nil {
		return err
	}
	if orderID%17 == 0 {
		return fmt.Errorf("send a mail to %s: smtp: 550 mailbox unavailable", to)
	}
	return nil
}

// ChargeCard charges the card of a customer, two cards at once for each shop.
//
//task:io
//task:queue payments
//task:priority high
//task:concurrency 2 by=shop
//task:retry 3 backoff=10s..1m
//task:result 1h params
//task:secret card
//task:tags money customer
func ChargeCard(ctx context.Context, shop string, orderID, cents int64, card string) (string, error) {
	if err := work(ctx, 900*time.Millisecond); err != nil {
		return "", err
	}
	switch {
	case orderID%31 == 0:
		return "", taskrt.Permanent(errors.New("the card was declined: insufficient funds"))
	case rand.IntN(8) == 0:
		return "", errors.New("charge: the payment provider replied 503")
	}
	return fmt.Sprintf("ch_%08x", orderID), nil
}

// Size is a width and a height in pixels.
type Size struct{ Width, Height int }

// ResizePicture makes a smaller picture, in a child process.
//
//task:cpu
//task:queue pictures
//task:retry 1 backoff=2s..4s
//task:timeout 1m
//task:memory 256MiB
//task:result 1h params
func ResizePicture(ctx context.Context, file string, size Size) (string, error) {
	if err := work(ctx, 500*time.Millisecond); err != nil {
		return "", err
	}
	pixels := make([]byte, 64)
	if size.Width > 4000 {
		pixels = pixels[:0]
	}
	return fmt.Sprintf("%s@%dx%d#%d", file, size.Width, size.Height, pixels[0]), nil
}

// PublishGallery publishes the pictures of a product once all of them are resized.
//
//task:io
//task:queue pictures
//task:result 1h params
func PublishGallery(ctx context.Context, pictures []string, product string) (int, error) {
	return len(pictures), work(ctx, 100*time.Millisecond)
}

// ImportCatalogue imports the products of a supplier.
//
//task:io
//task:queue imports
//task:unique 1h by=supplier
//task:timeout 10m
//task:result 1h params
func ImportCatalogue(ctx context.Context, supplier string, products int64) (int64, error) {
	for done := range products {
		taskrt.Progress(ctx, done, products, fmt.Sprintf("product %d of %s", done+1, supplier))
		if err := work(ctx, 500*time.Millisecond); err != nil {
			return done, err
		}
	}
	return products, nil
}

// Address is where a parcel goes to.
type Address struct {
	Name, Street, City string
	Country            string
}

// Parcel is one parcel of a shipment.
type Parcel struct {
	Grams int
	Items map[string]int
}

// CreateShipment orders a courier for the parcels of an order.
//
//task:io
//task:queue shipping
//task:default pickup "2026-12-01T09:00:00Z"
//task:default hold 30m
//task:rate 20/1m
//task:result 24h params
//task:tags customer
func CreateShipment(ctx context.Context, orderID int64, to Address, parcels []Parcel, pickup time.Time, hold time.Duration, note *string) (string, error) {
	return fmt.Sprintf("1Z%010d", orderID), work(ctx, 300*time.Millisecond)
}

// SyncStock asks the warehouse how many there are of each product.
//
//task:io
//task:queue stock
//task:every 20s start
//task:overlap skip
func SyncStock(ctx context.Context) error { return work(ctx, 2*time.Second) }

// NightlyReport sums up the day for the accountants.
//
//task:io
//task:queue reports
//task:cron "30 2 * * *" tz=Europe/Berlin
//task:result 24h
func NightlyReport(ctx context.Context) (string, error) { return "sent", work(ctx, time.Second) }

// work takes about as long as it is told.
func work(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d/2 + rand.N(d)):
		return nil
	}
}
