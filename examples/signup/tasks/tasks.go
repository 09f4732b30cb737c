// Package tasks has the background work of a site on which people sign up. Its tests show the
// test kit.
package tasks

import (
	"context"
	"errors"
	"strings"
	"time"

	taskrt "github.com/taskgen/taskgen/runtime"
)

//go:generate go tool taskgen -test

// SignUp registers a person: it queues a welcome now, and a reminder for the next day.
func SignUp(ctx context.Context, name, password string) error {
	if name == "" {
		return errors.New("sign up: the name is empty")
	}
	if _, err := QueueSendMail(ctx, name, "welcome", password); err != nil {
		return err
	}
	_, err := QueueRemind(ctx, name, taskrt.Delay(24*time.Hour))
	return err
}

// SendMail sends a mail. It counts the mail once it is sent.
//
//task:io
//task:name signup_mail
//task:retry 3 backoff=1m..1h
//task:secret password
func SendMail(ctx context.Context, to, template, password string) error {
	if strings.Contains(to, "bounce") {
		return errors.New("the mailbox is full")
	}
	_, err := QueueCount(ctx, template)
	return err
}

// Remind queues another mail.
//
//task:io
//task:name signup_remind
//task:unique 1h by=name
func Remind(ctx context.Context, name string) error {
	_, err := QueueSendMail(ctx, name, "reminder", "")
	return err
}

// Count counts mails and returns how many there are.
//
//task:io
//task:name signup_count
func Count(ctx context.Context, template string) (int, error) { return len(template), nil }

// Draw draws a badge with many points.
//
//task:cpu
//task:memory 256MiB
func Draw(ctx context.Context, points int) (int, error) { return points * points, nil }

// Report queues a mail each night.
//
//task:io
//task:name signup_report
//task:cron "30 2 * * *" tz=Europe/Rome
func Report(ctx context.Context) error {
	_, err := QueueSendMail(ctx, "boss", "report", "")
	return err
}
