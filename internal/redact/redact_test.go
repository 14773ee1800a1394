package redact

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const value = "correct horse"

func TestSecretInFmt(t *testing.T) {
	config := struct {
		User string
		Key  Secret
	}{"me", value}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10.3s", "%T %v"} {
		for _, arg := range []any{Secret(value), &config, config, []Secret{value}, map[string]Secret{"k": value}, map[Secret]int{value: 1}} {
			args := []any{arg, arg}[:strings.Count(verb, "%")]
			got := fmt.Sprintf(verb, args...)
			if strings.Contains(got, value) || strings.Contains(got, fmt.Sprintf("%x", value)) || strings.Contains(got, fmt.Sprintf("%X", value)) {
				t.Errorf("%s of %T shows the secret: %s", verb, arg, got)
			}
			if !strings.Contains(got, Mark) {
				t.Errorf("%s of %T shows no mark: %s", verb, arg, got)
			}
		}
	}
	if err := fmt.Errorf("login: %w", errors.New(fmt.Sprint(Secret(value)))); err.Error() != "login: "+Mark {
		t.Errorf("error %q", err)
	}
	if got := string(Secret(value)); got != value {
		t.Errorf("value %q, want %q", got, value)
	}
	if got := fmt.Sprint(Secret("")); got != "" {
		t.Errorf("empty secret prints %q", got)
	}
}

func TestSecretInLogsAndJSON(t *testing.T) {
	var out strings.Builder
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		out.Reset()
		type config struct{ Key Secret }
		slog.New(handler).Info("configured", "key", Secret(value), "all", config{value}, "nested", []config{{value}})
		if got := out.String(); strings.Contains(got, value) || strings.Count(got, Mark) != 3 {
			t.Errorf("%T wrote %s", handler, got)
		}
	}
	text, err := json.Marshal(map[string]Secret{"key": value, "none": ""})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"key":"` + Mark + `","none":""}`; string(text) != want {
		t.Errorf("JSON %s, want %s", text, want)
	}
}
