package naming_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/naming"
)

func TestNamesAreCutIntoWords(t *testing.T) {
	for name, want := range map[string][2]string{
		"DataID": {"data-id", "dataID"}, "DataIDs": {"data-ids", "dataIDs"}, "URLPath": {"url-path", "urlPath"},
		"URL": {"url", "url"}, "IDs": {"ids", "ids"}, "N": {"n", "n"}, "User_name": {"user-name", "user_name"},
		"Base64Text": {"base64-text", "base64Text"}, "HTTPServer": {"http-server", "httpServer"}, "ÄÖText": {"äö-text", "äöText"},
	} {
		require.Equal(t, want[0], naming.Kebab(name), name)
		require.Equal(t, want[1], naming.Unexported(name), name)
	}
}
