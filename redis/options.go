package redis

import (
	"fmt"
	"net/url"
)

// takeOptions moves the options of a URL that go-redis does not know into fields of cfg
// that have their defaults.
func takeOptions(raw string, cfg *Config) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return raw, nil // parseURL returns what is wrong
	}
	options := u.Query()
	if !options.Has("prefix") && !options.Has("acknowledge") && !options.Has("durable") {
		return raw, nil
	}
	if err := cfg.setOptions(options); err != nil {
		return "", fmt.Errorf("parse broker url: %w", err)
	}
	options.Del("prefix")
	options.Del("acknowledge")
	options.Del("durable")
	u.RawQuery = options.Encode()
	return u.String(), nil
}

// setOptions sets fields that have their defaults to the options of a URL.
func (c *Config) setOptions(options url.Values) error {
	if options.Has("durable") {
		if word := options.Get("durable"); word != "required" {
			return fmt.Errorf("option durable: %.32q is not required; write durable=required, or leave it out", word)
		}
		c.RequireDurable = true
	}
	if c.Prefix == "" {
		c.Prefix = options.Get("prefix")
	}
	if options.Has("acknowledge") {
		level, err := parseAcknowledge(options.Get("acknowledge"))
		if err != nil {
			return err
		}
		if c.Acknowledge == Memory {
			c.Acknowledge = level
		}
	}
	return nil
}
