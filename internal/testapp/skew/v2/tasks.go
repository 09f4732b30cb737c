// Package tasks is version 2.
package tasks

import (
	"context"

	"github.com/taskgen/taskgen/internal/testapp/skew"
)

// Same is the same in both versions.
//
//task:io
//task:result 1h
func Same(ctx context.Context, note string) error { return skew.Note(ctx, "v2") }

// Need got another parameter that is required.
//
//task:io
//task:result 1h
func Need(ctx context.Context, note, tenant string) error { return skew.Note(ctx, "v2") }

// NeedMuch did so in a child process.
//
//task:cpu
//task:result 1h
func NeedMuch(ctx context.Context, note, tenant string) error { return skew.Note(ctx, "v2") }

// Default got another parameter that has a default.
//
//task:io
//task:result 1h
//task:default tenant "none"
func Default(ctx context.Context, note, tenant string) error { return skew.Note(ctx, "v2") }

// After was Before.
//
//task:io
//task:alias before
//task:result 1h
func After(ctx context.Context, note string) error { return skew.Note(ctx, "v2") }

// Retype got a parameter of another type.
//
//task:io
//task:result 1h
func Retype(ctx context.Context, note string, n string) error { return skew.Note(ctx, "v2") }

// Harden became CPU-bound.
//
//task:cpu
//task:result 1h
func Harden(ctx context.Context, note string) error { return skew.Note(ctx, "v2") }

// Soften became an io task.
//
//task:io
//task:result 1h
func Soften(ctx context.Context, note string) error { return skew.Note(ctx, "v2") }

// Added is new.
//
//task:io
//task:result 1h
func Added(ctx context.Context, note string) error { return skew.Note(ctx, "v2") }
