package sshdconfig

import (
	"slices"
	"testing"
	"time"
)

func TestSplitKeyword(t *testing.T) {
	tests := []struct{ line, name, rest string }{
		{"", "", ""},
		{" \t# comment", "", ""},
		{"Port 22\r\n", "Port", "22"},
		{"\tPort\t=\t22 ", "Port", "22"},
		{"Port=22", "Port", "22"},
		{"SetEnv A=b", "SetEnv", "A=b"},
		{"ForceCommand = = x", "ForceCommand", "= x"},
		{"Port", "Port", ""},
	}
	for _, tt := range tests {
		if name, rest := splitKeyword(tt.line); name != tt.name || rest != tt.rest {
			t.Errorf("%q: %q, %q", tt.line, name, rest)
		}
	}
}

func TestSplitArguments(t *testing.T) {
	tests := []struct {
		text string
		want []string
	}{
		{"", nil},
		{" a \tb ", []string{"a", "b"}},
		{`"a b" 'c d'`, []string{"a b", "c d"}},
		{`A="b c"d`, []string{"A=b cd"}},
		{`a\ b`, []string{"a b"}},
		{`"a\ b"`, []string{`a\ b`}},
		{`\"a\' \\ \n`, []string{`"a'`, `\`, `\n`}},
		{`a#b #c`, []string{"a#b"}},
		{`"" ''`, []string{"", ""}},
		{`a\`, []string{`a\`}},
	}
	for _, tt := range tests {
		got, err := splitArguments(tt.text)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, %v, want %q", tt.text, got, err, tt.want)
		}
		again, err := splitArguments(joinArguments(got))
		if err != nil || !slices.Equal(again, got) {
			t.Errorf("%s: joined and split again: %q, %v", tt.text, again, err)
		}
	}
	for _, text := range []string{`"a`, `a'`, `'a\'`} {
		if got, err := splitArguments(text); err == nil {
			t.Errorf("%s: %q", text, got)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "90": 90 * time.Second, "1m": time.Minute, "1h30m": 90 * time.Minute, "1H30": time.Hour + 30*time.Second,
		"2d": 48 * time.Hour, "1w1d": 192 * time.Hour,
	} {
		if got, err := parseDuration(text); got != want || err != nil {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}
