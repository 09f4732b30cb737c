package compat

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maxFile limits a file read from git, in bytes. Generated code is far smaller.
const maxFile = 64 << 20

// ErrRef is returned for a ref that names no commit.
var ErrRef = errors.New("not a commit")

// snapshot is the generated code of a module at a commit.
type snapshot struct {
	root   string // root directory of the repository
	commit string // its full hash
	module string // the module's directory in the repository, with slashes; "" for the root
	prefix string // that directory in the work tree, which may be another
}

// blob is one file of a commit.
type blob struct {
	path string // from the repository's root, with slashes
	hash string
	data []byte
}

// openSnapshot resolves ref in the repository of the module in dir.
func openSnapshot(ctx context.Context, dir, ref string) (*snapshot, error) {
	if strings.HasPrefix(ref, "-") || ref == "" {
		return nil, fmt.Errorf("%q: %w", ref, ErrRef)
	}
	top, err := git(ctx, dir, nil, "rev-parse", "--show-toplevel", "--show-prefix")
	if err != nil {
		return nil, err
	}
	root, prefix, _ := strings.Cut(string(top), "\n")
	commit, err := git(ctx, dir, nil, "rev-parse", "--verify", "--quiet", "--end-of-options", ref+"^{commit}")
	if err != nil {
		return nil, errors.Join(ctx.Err(), fmt.Errorf("%q: %w", ref, ErrRef))
	}
	return &snapshot{
		root:   filepath.FromSlash(root),
		commit: strings.TrimSpace(string(commit)),
		module: strings.Trim(strings.TrimSuffix(prefix, "\n"), "/"),
		prefix: strings.Trim(strings.TrimSuffix(prefix, "\n"), "/"),
	}, nil
}

// git runs a git command without a shell and returns its output. Its error is git's
// message on one line.
func git(ctx context.Context, dir string, stdin io.Reader, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	cmd.Stdin = stdin
	// The configuration of a foreign checkout must not run commands, as fetching
	// missing objects could.
	cmd.Env = append(os.Environ(), "LC_ALL=C", "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0", "GIT_NO_LAZY_FETCH=1", "GIT_ALLOW_PROTOCOL=none")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		said := strings.TrimPrefix(strings.TrimSpace(stderr.String()), "fatal: ")
		said, _, _ = strings.Cut(said, "\n")
		if said == "" {
			return nil, fmt.Errorf("run git %s: %w", args[0], err)
		}
		return nil, fmt.Errorf("run git %s: %s", args[0], said)
	}
	return out, nil
}

// files returns the module's regular files for which keep returns true, with their
// content. Nested modules are excluded.
func (s *snapshot) files(ctx context.Context, keep func(path string) bool) ([]blob, error) {
	all, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	nested := map[string]bool{}
	for _, b := range all {
		dir, base := path.Split(b.path)
		if dir = strings.Trim(dir, "/"); base == "go.mod" && dir != s.module {
			nested[dir] = true
		}
	}
	kept := slices.DeleteFunc(all, func(b blob) bool { return !keep(b.path) || s.below(b.path, nested) })
	return kept, s.read(ctx, kept)
}

// list returns the regular files below the module's directory, without their content.
func (s *snapshot) list(ctx context.Context) ([]blob, error) {
	args := []string{"ls-tree", "-r", "-z", "--full-tree", s.commit}
	if s.module != "" {
		args = append(args, "--", s.module+"/")
	}
	out, err := git(ctx, s.root, nil, args...)
	if err != nil {
		return nil, err
	}
	var found []blob
	for entry := range strings.SplitSeq(string(out), "\x00") {
		meta, name, ok := strings.Cut(entry, "\t")
		fields := strings.Fields(meta) // mode, type and hash
		if ok && len(fields) == 3 && strings.HasPrefix(fields[0], "100") {
			found = append(found, blob{path: name, hash: fields[2]})
		}
	}
	return found, nil
}

// below reports whether a file is in one of the directories.
func (s *snapshot) below(file string, dirs map[string]bool) bool {
	for dir := path.Dir(file); dir != "." && dir != "/" && dir != s.module; dir = path.Dir(dir) {
		if dirs[dir] {
			return true
		}
	}
	return false
}

// read reads the content of the files. It first checks that they exist and are not too
// large, so that git need not be stopped halfway.
func (s *snapshot) read(ctx context.Context, blobs []blob) error {
	var hashes strings.Builder
	for _, b := range blobs {
		fmt.Fprintln(&hashes, b.hash)
	}
	total := 0
	err := s.eachAnswer(ctx, "--batch-check", hashes.String(), blobs, func(_ *blob, in *bufio.Reader) error {
		size, err := readSize(in)
		if total += size; err == nil && total > maxFile {
			err = fmt.Errorf("the generated files exceed %d bytes here", maxFile)
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.eachAnswer(ctx, "--batch", hashes.String(), blobs, func(b *blob, in *bufio.Reader) (err error) {
		b.data, err = readBlob(in)
		return err
	})
}

// eachAnswer runs "git cat-file" for the hashes of the files, and calls parse for the
// answer to each.
func (s *snapshot) eachAnswer(ctx context.Context, mode, hashes string, blobs []blob, parse func(*blob, *bufio.Reader) error) error {
	out, err := git(ctx, s.root, strings.NewReader(hashes), "cat-file", mode)
	if err != nil {
		return err
	}
	in := bufio.NewReader(bytes.NewReader(out))
	for i := range blobs {
		if err := parse(&blobs[i], in); err != nil {
			return fmt.Errorf("read %s of commit %s: %w", blobs[i].path, s.commit, err)
		}
	}
	return nil
}

// readBlob parses one answer of "git cat-file --batch": a head, the bytes and a
// newline.
func readBlob(in *bufio.Reader) ([]byte, error) {
	size, err := readSize(in)
	if err != nil {
		return nil, err
	}
	data := make([]byte, size+1)
	if _, err := io.ReadFull(in, data); err != nil {
		return nil, err
	}
	return data[:size], nil
}

// readSize parses the head of an answer of git cat-file: hash, type and size on one
// line.
func readSize(in *bufio.Reader) (int, error) {
	head, err := in.ReadString('\n')
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(head)
	if len(fields) == 2 && fields[1] == "missing" {
		return 0, errors.New("it is not in this clone, and taskgen does not fetch; in a partial clone, check out that commit first")
	}
	if len(fields) != 3 || fields[1] != "blob" {
		return 0, fmt.Errorf("git says %q", strings.TrimSpace(head))
	}
	size, err := strconv.Atoi(fields[2])
	if err != nil || size < 0 || size > maxFile {
		return 0, fmt.Errorf("its %s bytes exceed the limit of %d", fields[2], maxFile)
	}
	return size, nil
}
