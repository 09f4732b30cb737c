// Package tasks has tasks whose receiver is opened late.
package tasks

import (
	"context"
	"fmt"

	taskrt "github.com/taskgen/taskgen/runtime"
)

//go:generate go tool taskgen -test

// Directory carries what its tasks need. Open fills it.
type Directory struct{ phones map[string]string }

// Open stands for the opening of a database.
func (d *Directory) Open(context.Context) error {
	d.phones = map[string]string{"ada": "555-0100"}
	return nil
}

// Find returns a person's number.
//
//task:io
func (d *Directory) Find(ctx context.Context, name string) (string, error) { return d.find(name) }

// Search returns it too, from a child process.
//
//task:cpu
func (d *Directory) Search(ctx context.Context, name string) (string, error) { return d.find(name) }

func (d *Directory) find(name string) (string, error) {
	phone, ok := d.phones[name]
	if !ok {
		return "", taskrt.Permanent(fmt.Errorf("find %s: not in the directory", name))
	}
	return phone, nil
}
