package api

import (
	"encoding/json"
	"net/http"
)

// openapi replies with the document of the API.
func (a *API) openapi(_ http.ResponseWriter, _ *http.Request) (any, error) {
	b, err := a.openAPI()
	if err != nil {
		return nil, err
	}
	return json.RawMessage(b), nil
}

// describe returns the document of the API.
func (a *API) describe() ([]byte, error) { return []byte("{}"), nil }
