package sshdconfig

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the table of directives in docs/sshd_config.md")

const (
	directivesFile = "../../docs/sshd_config.md"
	tableHead      = "| directive | treatment | in a Match block | which lines count | how far, or why not |\n|---|---|---|---|---|\n"
)

// directiveTable is the table of docs/sshd_config.md.
func directiveTable() string {
	var b strings.Builder
	b.WriteString(tableHead)
	for _, group := range []struct {
		treatment string
		keywords  []keyword
	}{{"obeyed", structural}, {"obeyed", obeyed}, {"refused when on", offOnlys}, {"accepted without effect", inert}} {
		for _, k := range group.keywords {
			name, others, _ := strings.Cut(k.names, " ")
			if others != "" {
				name += " (" + strings.ReplaceAll(others, " ", ", ") + ")"
			}
			within := map[scope]string{anywhere: "yes", global: "no"}[k.scope]
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", name, group.treatment, within, lineRules[k.kind], k.note)
		}
	}
	return b.String()
}

var lineRules = map[kind]string{
	first: "the first", wholeLine: "the first, with all its values", appending: "all", keyed: "the first for each name", structure: "all",
}

// TestDirectiveTable compares the documentation with the tables in keywords.go.
func TestDirectiveTable(t *testing.T) {
	file, err := os.ReadFile(directivesFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(file), tableHead)
	if !ok {
		t.Fatalf("%s has no table of directives", directivesFile)
	}
	table, after, _ := strings.Cut(rest, "\n\n")
	if *update {
		text := before + directiveTable() + "\n" + after
		if err := os.WriteFile(directivesFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got := tableHead + table + "\n"; got != directiveTable() {
		t.Errorf("%s is out of date: make docs", directivesFile)
	}
}
