// Package dashboard shows and operates a broker's runs in a browser, and by an HTTP API.
package dashboard
