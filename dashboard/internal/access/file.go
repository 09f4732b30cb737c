package access

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxFile  = 1 << 20     // bytes of a file of users
	fileAge  = time.Second // how long a look at a file is good for
	perTask  = "task:"     // in front of the name of a task in a file
	rateWord = "rate:"     // in front of the requests per second
)

// File finds the users of a file. It reads the file again once it has changed, which it
// looks for once a second. If it cannot, it keeps the users it has, and logs why.
type File struct {
	path string
	make func(...Login) (Finder, error)

	mu     sync.Mutex
	logger *slog.Logger
	finder Finder
	seen   os.FileInfo
	looked time.Time
	failed string // why it could not be read last; empty: it was
}

// NewBasicFile returns a finder of the users of a file, by their passwords.
func NewBasicFile(path string) (*File, error) {
	return newFile(path, func(l ...Login) (Finder, error) { return NewBasic(l...) })
}

// NewBearerFile returns a finder of the users of a file, by their tokens.
func NewBearerFile(path string) (*File, error) {
	return newFile(path, func(l ...Login) (Finder, error) { return NewBearer(l...) })
}

func newFile(path string, make func(...Login) (Finder, error)) (*File, error) {
	f := &File{path: path, make: make, logger: slog.Default(), looked: time.Now()}
	if err := f.read(); err != nil {
		return nil, fmt.Errorf("read users of %s: %w", path, err)
	}
	return f, nil
}

// SetLogger has the file log there that it cannot be read.
func (f *File) SetLogger(logger *slog.Logger) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logger = logger
}

// Challenge is that of the users.
func (f *File) Challenge() []string { return f.current().(Challenger).Challenge() }

// Find returns the user of the request.
func (f *File) Find(r *http.Request) (*User, error) { return f.current().Find(r) }

// current returns the finder of the file as it is now.
func (f *File) current() Finder {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.looked) < fileAge {
		return f.finder
	}
	f.looked = time.Now()
	info, err := os.Stat(f.path)
	if err == nil && os.SameFile(info, f.seen) && info.ModTime().Equal(f.seen.ModTime()) && info.Size() == f.seen.Size() {
		return f.finder
	}
	if err == nil {
		err = f.read()
	}
	switch {
	case err != nil && err.Error() != f.failed:
		f.failed = err.Error()
		f.logger.Error("the file of users cannot be read; those read before stay", "file", f.path, "error", err)
	case err == nil:
		f.failed = ""
		f.logger.Info("the file of users was read again", "file", f.path)
	}
	return f.finder
}

// read reads the file.
func (f *File) read() error {
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return err
	}
	if len(text) > maxFile {
		return fmt.Errorf("it has more than %d bytes", maxFile)
	}
	logins, err := parseLogins(text)
	if err != nil {
		return err
	}
	finder, err := f.make(logins...)
	if err != nil {
		return err
	}
	f.finder, f.seen = finder, info
	return nil
}

// parseLogins reads the lines of a file: NAME:HASH, and behind it what the user may do. Its
// errors quote no hash.
func parseLogins(text []byte) (logins []Login, err error) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		l, err := parseLogin(words)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		logins = append(logins, l)
	}
	if len(logins) == 0 {
		return nil, errNoLogins
	}
	return logins, lines.Err()
}

var errNoHash = errors.New("it does not begin with NAME:HASH")

func parseLogin(words []string) (Login, error) {
	name, hash, ok := strings.Cut(words[0], ":")
	if !ok || name == "" || hash == "" {
		return Login{}, errNoHash
	}
	role, actions, tasks, rate := None, []Action(nil), []string(nil), DefaultRate
	granted := false
	for i, word := range words[1:] {
		if task, ok := strings.CutPrefix(word, perTask); ok && task != "" {
			tasks = append(tasks, task)
			continue
		}
		if digits, ok := strings.CutPrefix(word, rateWord); ok {
			n, err := strconv.Atoi(digits)
			if err != nil || n < 1 || n > 1_000_000 {
				return Login{}, fmt.Errorf("user %.64q: word %d is no rate; it is requests a second, such as rate:50", name, i+2)
			}
			rate = n
			continue
		}
		granted = true
		if at := slices.Index(roleNames, word); at >= 0 {
			role = max(role, Role(at))
		} else if slices.Contains(Actions, Action(word)) {
			actions = append(actions, Action(word))
		} else {
			return Login{}, fmt.Errorf("user %.64q: word %d is no role (read, operate, admin), no action (%s), nor task:NAME or rate:N", name, i+2, joined(Actions))
		}
	}
	if !granted {
		return Login{}, fmt.Errorf("user %.64q may do nothing; write a role behind the hash: read, operate or admin", name)
	}
	u := NewUser(name, role, actions, tasks)
	u.PerSecond = rate
	return Login{u, hash}, nil
}

func joined(actions []Action) string {
	var names []string
	for _, a := range actions {
		names = append(names, string(a))
	}
	return strings.Join(names, ", ")
}
