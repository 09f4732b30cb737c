package tasks

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"net/url"
	"os"
	"time"

	taskrt "github.com/taskgen/taskgen/runtime"
)

// Credentials are secrets of many types.
type Credentials struct {
	User   string
	Tokens map[string][]string
	Born   time.Time
	From   netip.Addr
}

// Leak fails in the given way, with its secrets in its output.
//
//task:io
//task:retry 0
//task:secret text
//task:secret key
//task:secret raw
//task:secret pin
//task:secret ratio
//task:secret who
//task:secret amount
func Leak(ctx context.Context, how, text string, key [8]byte, raw []byte, pin int, ratio float64, who Credentials, amount *big.Int) error {
	return leak(ctx, how, text, key, raw, pin, ratio, who, amount)
}

// LeakApart is Leak in a child process.
//
//task:cpu
//task:retry 0
//task:secret text
//task:secret key
//task:secret raw
//task:secret pin
//task:secret ratio
//task:secret who
//task:secret amount
func LeakApart(ctx context.Context, how, text string, key [8]byte, raw []byte, pin int, ratio float64, who Credentials, amount *big.Int) error {
	return leak(ctx, how, text, key, raw, pin, ratio, who, amount)
}

// leftBehind is a secret that a run left in its child process.
var leftBehind string

//go:noinline
func leak(ctx context.Context, how, text string, key [8]byte, raw []byte, pin int, ratio float64, who Credentials, amount *big.Int) error {
	said := fmt.Sprintf("%s %q %s %x %v %v %s %d %#x %v %+v %s %s %s basic %s", text, text, url.QueryEscape(text), key, key, raw, raw, pin, pin, ratio, who, amount,
		base64.StdEncoding.EncodeToString(raw), url.PathEscape(text), base64.URLEncoding.EncodeToString([]byte("user:"+text)))
	taskrt.Progress(ctx, 1, 2, said)
	switch how {
	case "error":
		return errors.New(said)
	case "panic":
		panic(said)
	case "argument":
		var none map[string]int
		//lint:ignore SA5000 it is to panic
		none[how] = pin
	case "number":
		return fmt.Errorf("index %d of %d", pin, len(make([]int, 3)[:min(pin, 2)]))
	case "crash":
		done := make(chan struct{})
		go func() { panic(said) }()
		<-done
	case "print":
		fmt.Fprintln(os.Stderr, said)
	case "leave":
		leftBehind = said
	case "left":
		fmt.Fprintln(os.Stderr, "left:", leftBehind)
	}
	return nil
}
