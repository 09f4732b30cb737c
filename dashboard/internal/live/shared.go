// Package live keeps what many viewers of the dashboard see at the cost of one: values that
// are read from the broker at most once in a while, and pages that are rendered again while
// somebody watches.
package live

import (
	"context"
	"sync"
	"time"
)

// Shared is a value that all viewers share. It is read when somebody asks and the last one is
// too old. Its methods may be called concurrently.
type Shared[T any] struct {
	read    func(ctx context.Context) (T, error)
	maxAge  time.Duration
	timeout time.Duration

	mu    sync.Mutex
	last  Seen[T]
	began time.Time // when the last reading began; zero: there was none
}

// Seen is a shared value, and how it was read.
type Seen[T any] struct {
	Value T         // of the last reading that succeeded; the zero value: there was none
	At    time.Time // when that began
	Err   error     // of a later reading that failed
}

// NewShared returns a value that read returns, which gets the time of timeout and not the
// context of who asks, as others wait for it. It is read again if the last is older than maxAge.
func NewShared[T any](maxAge, timeout time.Duration, read func(ctx context.Context) (T, error)) *Shared[T] {
	return &Shared[T]{read: read, maxAge: maxAge, timeout: timeout}
}

// Get returns the value. It blocks while the value is read.
func (s *Shared[T]) Get(ctx context.Context) Seen[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !s.began.IsZero() && now.Sub(s.began) < s.maxAge {
		return s.last
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
	defer cancel()
	value, err := s.read(ctx)
	s.began = now
	if err != nil {
		s.last.Err = err
		return s.last
	}
	s.last = Seen[T]{Value: value, At: now}
	return s.last
}

// Forget has the next Get read the value, however young the last one is.
func (s *Shared[T]) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began = time.Time{}
}

// Keyed is one [Shared] for each of some keys, of which it keeps the latest asked for.
type Keyed[K comparable, T any] struct {
	most int
	make func(K) *Shared[T]

	mu   sync.Mutex
	all  map[K]*Shared[T]
	uses map[K]uint64 // when each was asked for, by count
	use  uint64
}

// NewKeyed returns shared values, at most so many, that newShared makes.
func NewKeyed[K comparable, T any](most int, newShared func(K) *Shared[T]) *Keyed[K, T] {
	return &Keyed[K, T]{most: most, make: newShared, all: make(map[K]*Shared[T]), uses: make(map[K]uint64)}
}

// Get returns the value of a key, as [Shared.Get] does.
func (k *Keyed[K, T]) Get(ctx context.Context, key K) Seen[T] {
	return k.shared(key).Get(ctx)
}

// Forget has the next Get of each key read its value.
func (k *Keyed[K, T]) Forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.all)
	clear(k.uses)
}

func (k *Keyed[K, T]) shared(key K) *Shared[T] {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.use++
	k.uses[key] = k.use
	if s, known := k.all[key]; known {
		return s
	}
	if len(k.all) >= k.most {
		oldest, first := key, k.use
		for other := range k.all {
			if k.uses[other] < first {
				oldest, first = other, k.uses[other]
			}
		}
		delete(k.all, oldest)
		delete(k.uses, oldest)
	}
	s := k.make(key)
	k.all[key] = s
	return s
}
