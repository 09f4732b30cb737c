// Operating is a program on which docs/operating.md tries its commands: its mails panic until
// there is a template.
//
//	go run ./examples/operating serve --http 127.0.0.1:8080
package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	taskrt "github.com/taskgen/taskgen/runtime"
	"github.com/taskgen/taskgen/runtime/taskapp"
)

//go:generate go tool taskgen

// Welcome sends a mail to a new customer.
//
//task:io
//task:queue mail
//task:retry 1 backoff=100ms..200ms
//task:result 1h
func Welcome(ctx context.Context, to string) error {
	taskrt.Logger(ctx).Info("mail sent", "bytes", len(template("mail.txt"))+len(to))
	return nil
}

// template reads a template. There is always one, is there not?
func template(name string) string {
	text, err := os.ReadFile(filepath.Join("templates", name))
	if err != nil {
		panic(err)
	}
	return string(text)
}

// Crop cuts the margins off a picture, in a child process.
//
//task:cpu
//task:queue pictures
//task:timeout 10m
//task:memory 256MiB
func Crop(ctx context.Context, picture string) error { return nil }

// Sweep removes what is old.
//
//task:io
//task:every 1m
func Sweep(ctx context.Context) error { return nil }

func main() {
	app := &taskapp.App{Consumer: taskrt.ConsumerConfig{Grace: time.Minute}}
	app.Main(Tasks())
}
