package text_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/text"
)

func TestPrintedTextControlsNoTerminal(t *testing.T) {
	var all strings.Builder
	for r := range rune(0x3000) {
		all.WriteRune(r)
	}
	all.WriteString("\U000e0041\U0001f600\ufeff\ufffd")
	require.Equal(t, "héllo \"w\\rld\" 世界 😀", text.Printable("héllo \"w\\rld\" 世界 😀"), "what is printable stays")
	require.Equal(t, `\xff\xfe\x1b\u2028\n`, text.Printable("\xff\xfe\x1b\u2028\n"))
	b, err := text.JSON(all.String())
	require.NoError(t, err)
	for _, r := range text.Printable(all.String()) + string(b) {
		require.True(t, unicode.IsPrint(r), "%q", r)
	}
	var back string
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, all.String(), back, "JSON means the same as before")
}
