// Package tasks is version 1.
package tasks

import (
	"context"

	"github.com/taskgen/taskgen/internal/testapp/skew"
)

// Same is the same in both versions.
//
//task:io
//task:result 1h
func Same(ctx context.Context, note string) error { return skew.Note(ctx, "v1") }

// Need gets another parameter that is required.
//
//task:io
//task:result 1h
func Need(ctx context.Context, note string) error { return skew.Note(ctx, "v1") }

// NeedMuch does so in a child process.
//
//task:cpu
//task:result 1h
func NeedMuch(ctx context.Context, note string) error { return skew.Note(ctx, "v1") }

// Default gets another parameter that has a default.
//
//task:io
//task:result 1h
func Default(ctx context.Context, note string) error { return skew.Note(ctx, "v1") }

// Before gets another name.
//
//task:io
//task:result 1h
func Before(ctx context.Context, note string) error { return skew.Note(ctx, "v1") }

// Retype gets a parameter of another type.
//
//task:io
//task:result 1h
func Retype(ctx context.Context, note string, n int) error { return skew.Note(ctx, "v1") }

// Harden becomes CPU-bound.
//
//task:io
//task:result 1h
func Harden(ctx context.Context, note string) error { return skew.Note(ctx, "v1") }

// Soften becomes an io task.
//
//task:cpu
//task:result 1h
func Soften(ctx context.Context, note string) error { return skew.Note(ctx, "v1") }
