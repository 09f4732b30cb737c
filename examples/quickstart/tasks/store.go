package tasks

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// chains is how many documents are processed at once. Each chain of fetches and
// calculations takes every chains-th document.
const chains = 2

// Store keeps documents and summaries in a folder, for the consumer, its child
// processes, and later runs of the program.
type Store struct{ Dir string }

// Begin stores the list of documents to process.
func (s *Store) Begin(urls []string) error { return s.writeJSON("urls.json", urls) }

// URLs returns the list passed to Begin, or an empty one before that.
func (s *Store) URLs() (urls []string, err error) {
	_, err = s.readJSON("urls.json", &urls)
	return urls, err
}

// First returns the first document of each chain.
func First(urls []string) []string { return urls[:min(chains, len(urls))] }

// Put stores a document and returns its id.
func (s *Store) Put(url string, text []byte) (dataID string, err error) {
	dataID = id(url)
	return dataID, s.write(dataID, text)
}

// Get returns a document.
func (s *Store) Get(dataID string) ([]byte, error) {
	return os.ReadFile(filepath.Join(s.Dir, filepath.Base(dataID)))
}

// Next returns the next document of the same chain, unless it is calculated already.
func (s *Store) Next(dataID string) (url string, ok bool) {
	urls, err := s.URLs()
	i := slices.IndexFunc(urls, func(url string) bool { return id(url) == dataID })
	if err != nil || i < 0 || i+chains >= len(urls) {
		return "", false
	}
	_, done, err := s.Summary(id(urls[i+chains]))
	return urls[i+chains], err == nil && !done
}

// Finish stores a calculation's summary.
func (s *Store) Finish(summary Summary) error {
	return s.writeJSON(summary.DataID+".json", summary)
}

// Summary returns a document's summary; ok is false if it is not calculated yet.
func (s *Store) Summary(dataID string) (summary Summary, ok bool, err error) {
	ok, err = s.readJSON(filepath.Base(dataID)+".json", &summary)
	return summary, ok, err
}

// Summaries returns the finished summaries.
func (s *Store) Summaries() ([]Summary, error) {
	urls, err := s.URLs()
	var all []Summary
	for _, url := range urls {
		summary, ok, err := s.Summary(id(url))
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, summary)
		}
	}
	return all, err
}

func (s *Store) readJSON(name string, v any) (ok bool, err error) {
	b, err := os.ReadFile(filepath.Join(s.Dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, json.Unmarshal(b, v)
}

func (s *Store) writeJSON(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.write(name, b)
}

// write replaces a file atomically, so that a reader never sees half of it.
func (s *Store) write(name string, b []byte) error {
	f, err := os.CreateTemp(s.Dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(s.Dir, name))
}

// id returns a document's file name without its extension.
func id(url string) string { return strings.TrimSuffix(path.Base(url), ".txt") }
