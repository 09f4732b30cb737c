// Package tasks is the quickstart's background work. io tasks fetch documents and
// CPU-bound tasks calculate them, and each queues the next.
package tasks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	taskrt "github.com/taskgen/taskgen/runtime"
)

// rounds of hashing make a calculation take about 100 ms.
const rounds = 1_500_000

// Summary is the result of a calculation.
type Summary struct {
	DataID string
	Words  int
	Digest string
}

// FetchData downloads a document, stores it and asks for its calculation.
//
//task:io
//task:retry 5 backoff=100ms..5s
//task:timeout 30s
func (s *Store) FetchData(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return taskrt.Permanent(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("fetch %s: %s", url, response.Status)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	dataID, err := s.Put(url, text)
	if err != nil {
		return err
	}
	taskrt.Logger(ctx).Info("fetched", "document", dataID, "bytes", len(text))
	_, err = QueueStoreHeavyCalculation(ctx, dataID)
	return err
}

// HeavyCalculation counts a document's words and hashes it many times over, in a
// child process, and queues the next document.
//
//task:cpu
//task:timeout 1m
func (s *Store) HeavyCalculation(ctx context.Context, dataID string) (Summary, error) {
	summary, done, err := s.Summary(dataID)
	if err != nil {
		return Summary{}, err
	}
	if !done { // a run is executed again if its machine dies
		text, err := s.Get(dataID)
		if err != nil {
			return Summary{}, err
		}
		summary = calculate(dataID, text)
		taskrt.Logger(ctx).Info("calculated", "document", dataID, "words", summary.Words, "digest", summary.Digest)
		if err := s.Finish(summary); err != nil {
			return Summary{}, err
		}
	}
	if next, ok := s.Next(dataID); ok {
		_, err = QueueStoreFetchData(ctx, next)
	}
	return summary, err
}

func calculate(dataID string, text []byte) Summary {
	digest := sha256.Sum256(text)
	for range rounds {
		digest = sha256.Sum256(digest[:])
	}
	return Summary{DataID: dataID, Words: len(bytes.Fields(text)), Digest: hex.EncodeToString(digest[:8])}
}

// Scheduled says OK every second.
//
//task:io
//task:every 1s
func Scheduled(ctx context.Context) (string, error) {
	taskrt.Logger(ctx).Info("OK", "at", time.Now().Format(time.TimeOnly), "tick", ticks.Add(1))
	return "OK", nil
}

var ticks atomic.Int64

// Ticks returns how often Scheduled has run in this process.
func Ticks() int64 { return ticks.Load() }
