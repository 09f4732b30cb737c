package access

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"
)

const (
	maxName     = 200 // bytes of the name of a user
	maxSecret   = 512 // bytes of a password or token
	maxPassword = 72  // bytes that bcrypt hashes
	maxCost     = 14  // of bcrypt; with more a login takes seconds
	tokenPrefix = "sha256:"
)

// Login is a user and the hash of its secret.
type Login struct {
	User *User
	Hash string
}

// HashPassword returns the bcrypt hash of a password.
func HashPassword(password string) (string, error) {
	b, err := bcrypt.GenerateFromPassword([]byte(password), 12)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return string(b), nil
}

// HashToken returns the hash of a token. A token is random and long, so nobody can find it by
// trying, and a hash that is fast will do.
func HashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return tokenPrefix + hex.EncodeToString(sum[:])
}

// Basic finds users by name and password.
type Basic struct {
	logins map[string]Login
	other  []byte        // a hash that takes as long to compare, for names that are unknown
	turns  chan struct{} // comparisons at once: each takes a processor for a while

	mu    sync.Mutex
	key   []byte
	known map[string][]byte // by name: of the password that was right, its HMAC
}

// NewBasic returns a finder of the users of logins, whose hashes are of bcrypt.
func NewBasic(logins ...Login) (*Basic, error) {
	b := &Basic{logins: make(map[string]Login), turns: make(chan struct{}, 2), key: make([]byte, 32), known: make(map[string][]byte)}
	most := bcrypt.MinCost
	for _, l := range logins {
		cost, err := bcrypt.Cost([]byte(l.Hash))
		switch {
		case err != nil:
			return nil, fmt.Errorf("read user %.64q: the password is not hashed by bcrypt; htpasswd -nB NAME does that", l.User.Name)
		case cost > maxCost:
			return nil, fmt.Errorf("read user %.64q: the hash has cost %d, at most %d is allowed", l.User.Name, cost, maxCost)
		}
		if err := addLogin(b.logins, l); err != nil {
			return nil, err
		}
		most = max(most, cost)
	}
	if _, err := rand.Read(b.key); err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	var err error
	if b.other, err = bcrypt.GenerateFromPassword(b.key, most); err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	return b, nil
}

// addLogin adds a login by the name of its user.
func addLogin(logins map[string]Login, l Login) error {
	switch {
	case l.User.Name == "" || len(l.User.Name) > maxName || strings.ContainsAny(l.User.Name, ":\r\n"):
		return fmt.Errorf("read users: none can be named %.64q", l.User.Name)
	case logins[l.User.Name].User != nil:
		return fmt.Errorf("read users: two are named %.64q", l.User.Name)
	}
	logins[l.User.Name] = l
	return nil
}

// Challenge asks for a password.
func (*Basic) Challenge() []string { return []string{`Basic realm="taskgen", charset="UTF-8"`} }

// Find returns the user of the password of the request.
func (b *Basic) Find(r *http.Request) (*User, error) {
	name, password, ok := r.BasicAuth()
	if !ok {
		return nil, ErrNoUser
	}
	l, known := b.logins[name]
	if !known {
		l.Hash = string(b.other)
	}
	if len(password) > maxPassword {
		return nil, ErrNoUser
	}
	sum := b.sum(password)
	if known && b.isKnown(name, sum) {
		return l.User, nil
	}
	right, err := b.compare(r.Context(), l.Hash, password)
	if err != nil {
		return nil, err
	}
	if !known || !right {
		return nil, ErrNoUser
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known[name] = sum
	return l.User, nil
}

func (b *Basic) sum(password string) []byte {
	h := hmac.New(sha256.New, b.key)
	_, _ = h.Write([]byte(password))
	return h.Sum(nil)
}

// isKnown reports whether the password was right before, so that not each request of a
// browser takes as long as a login.
func (b *Basic) isKnown(name string, sum []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return hmac.Equal(b.known[name], sum)
}

// compare reports whether a hash is that of a password, in constant time.
func (b *Basic) compare(ctx context.Context, hash, password string) (bool, error) {
	select {
	case b.turns <- struct{}{}:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	defer func() { <-b.turns }()
	return bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil, nil
}

// Bearer finds users by token.
type Bearer struct {
	logins []Login
	hashes [][]byte // of logins
}

// NewBearer returns a finder of the users of logins, whose hashes are of [HashToken].
func NewBearer(logins ...Login) (*Bearer, error) {
	b := new(Bearer)
	names := make(map[string]Login)
	for _, l := range logins {
		digits, ok := strings.CutPrefix(l.Hash, tokenPrefix)
		hash, err := hex.DecodeString(digits)
		if !ok || err != nil || len(hash) != sha256.Size {
			return nil, fmt.Errorf("read user %.64q: the hash of the token is not %sHEX; sha256sum makes the digits", l.User.Name, tokenPrefix)
		}
		if err := addLogin(names, l); err != nil {
			return nil, err
		}
		b.logins, b.hashes = append(b.logins, l), append(b.hashes, hash)
	}
	return b, nil
}

// Challenge asks for a token.
func (*Bearer) Challenge() []string { return []string{`Bearer realm="taskgen"`} }

// Find returns the user of the token of the request. It takes as long for each.
func (b *Bearer) Find(r *http.Request) (*User, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || token == "" || len(token) > maxSecret {
		return nil, ErrNoUser
	}
	sum := sha256.Sum256([]byte(token))
	found := -1
	for i, hash := range b.hashes {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(hash, sum[:]), i, found)
	}
	if found < 0 {
		return nil, ErrNoUser
	}
	return b.logins[found].User, nil
}

// errNoLogins: a file would let nobody in.
var errNoLogins = errors.New("it names no user")
