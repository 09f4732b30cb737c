package scan

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/types"
	"io"
	"os"
	"os/exec"
	"slices"

	"golang.org/x/tools/go/gcexportdata"
	"golang.org/x/tools/go/packages"
)

// listed is a package as go list prints it.
type listed struct {
	ImportPath, Name, Dir, Export     string
	GoFiles, CgoFiles                 []string
	IgnoredGoFiles, IgnoredOtherFiles []string
	DepOnly                           bool
	Module                            *packages.Module
	Error                             *struct{ Err string }
}

// goList runs go list, as go/packages does after further runs of the go command. It returns
// none if that does not work or is not for the go command: go/packages knows other build
// systems, and makes messages of what the go command prints.
func (s *pass) goList(ctx context.Context, words []string, flags ...string) []*listed {
	if hasDriver() {
		return nil
	}
	args := slices.Concat([]string{"list", "-e", "-buildvcs=false", "-pgo=off"}, flags, []string{"--"}, words)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = s.cfg.Dir
	out, err := cmd.Output()
	if err != nil {
		return nil
	}
	var all []*listed
	for in := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(listed)
		switch err := in.Decode(p); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil || p.ImportPath == "":
			return nil
		}
		all = append(all, p)
	}
}

// hasDriver reports whether go/packages would not ask the go command, but the driver of
// another build system.
func hasDriver() bool {
	switch os.Getenv("GOPACKAGESDRIVER") {
	case "off":
		return false
	case "":
		_, err := exec.LookPath("gopackagesdriver")
		return err == nil
	}
	return true
}

// loaded returns the package as go/packages would, without types.
func (p *listed) loaded() *packages.Package {
	return &packages.Package{
		PkgPath: p.ImportPath, Name: p.Name, Dir: p.Dir, Module: p.Module,
		GoFiles:      under(p.Dir, p.GoFiles, p.CgoFiles),
		IgnoredFiles: under(p.Dir, p.IgnoredGoFiles, p.IgnoredOtherFiles),
	}
}

func (p *listed) hasError() bool { return p.Error != nil }

func (p *listed) isCompiled() bool { return p.Error == nil && p.Export != "" }

// matched returns the packages that the patterns match, without types.
func (s *pass) matched(ctx context.Context) ([]*packages.Package, error) {
	const fields = "-json=ImportPath,Name,Dir,GoFiles,CgoFiles,IgnoredGoFiles,IgnoredOtherFiles,Module,Error"
	all := s.goList(ctx, s.cfg.Patterns, "-find", fields)
	if len(all) == 0 || slices.ContainsFunc(all, (*listed).hasError) {
		return packages.Load(&packages.Config{
			Context: ctx,
			Mode:    packages.NeedName | packages.NeedFiles | packages.NeedModule,
			Dir:     s.cfg.Dir,
		}, s.cfg.Patterns...)
	}
	var found []*packages.Package
	for _, p := range all {
		found = append(found, p.loaded())
	}
	return found, nil
}

// exported returns the packages of paths with their types, from the export data that the go
// command has or makes. It returns none if that does not work. If one of the packages is
// broken, compiled has those of its dependencies that are not.
func (s *pass) exported(ctx context.Context, paths []string) (roots []*packages.Package, compiled map[string]bool) {
	all := s.goList(ctx, paths, "-export", "-deps", "-json=ImportPath,Name,Dir,GoFiles,CgoFiles,Export,DepOnly,Error")
	if slices.ContainsFunc(all, func(p *listed) bool { return !p.DepOnly && !p.isCompiled() }) {
		compiled = map[string]bool{}
		for _, p := range all {
			compiled[p.Dir] = p.isCompiled()
		}
		return nil, compiled
	}
	if slices.ContainsFunc(all, (*listed).hasError) {
		return nil, nil
	}
	read := map[string]*types.Package{}
	for _, p := range all {
		s.files[p.ImportPath] = under(p.Dir, p.GoFiles, p.CgoFiles)
		if p.DepOnly {
			continue
		}
		root := p.loaded()
		var err error
		if root.Types, err = s.readExport(p, read); err != nil {
			return nil, nil
		}
		roots = append(roots, root)
	}
	return roots, nil
}

// readExport reads the types of a package. The map has the packages that it or an earlier
// one refers to.
func (s *pass) readExport(p *listed, known map[string]*types.Package) (*types.Package, error) {
	file, err := os.Open(p.Export)
	if err != nil {
		return nil, fmt.Errorf("read types: %w", err)
	}
	defer file.Close()
	//lint:ignore SA1019 the go command gives archives up to Go 1.28, and only this finds the export data in them
	in, err := gcexportdata.NewReader(file)
	if err != nil {
		return nil, fmt.Errorf("read types: %w", err)
	}
	return gcexportdata.Read(in, s.fset, known, p.ImportPath)
}
