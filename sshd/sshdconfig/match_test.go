package sshdconfig

import (
	"strings"
	"testing"
)

func TestMatchCriteria(t *testing.T) {
	conn := Connection{User: "ada", Host: "Node1.example.com", Address: "192.0.2.7", LocalAddress: "10.0.0.1", LocalPort: 2222, Groups: []string{"ada", "wheel"}}
	tests := []struct {
		criteria string
		want     bool
	}{
		{"all", true},
		{"User ada", true},
		{"USER=ada", true},
		{"User Ada", false},
		{"User root,a*", true},
		{"User *,!ada", false},
		{"User !root", false},
		{"User ada Address 192.0.2.0/24", true},
		{"User ada Address 198.51.100.0/24", false},
		{"Group wheel", true},
		{"Group users,wh?el", true},
		{"Group wheel,!ada", false},
		{"Group root", false},
		{"Host *.EXAMPLE.com", true},
		{"Host *.example.org", false},
		{"Address 192.0.2.*", true},
		{"Address 0.0.0.0/0,!192.0.2.7", false},
		{"LocalAddress 10.0.0.0/8", true},
		{"LocalPort 2222", true},
		{"LocalPort 22", false},
		{"invalid-user", false},
		{`User "ada" # a comment`, true},
	}
	for _, tt := range tests {
		c := load(t, "PermitTTY yes\nMatch "+tt.criteria+"\nPermitTTY no\n")
		if got := !settings(t, c, conn).PermitTTY; got != tt.want {
			t.Errorf("Match %s: %v", tt.criteria, got)
		}
	}
	c := load(t, "Match invalid-user\nPermitTTY no\n")
	if settings(t, c, Connection{InvalidUser: true}).PermitTTY {
		t.Error("invalid-user does not match one")
	}
	c = load(t, "Match Address *\nPermitTTY no\n")
	if !settings(t, c, Connection{Address: "UNKNOWN"}).PermitTTY {
		t.Error("an unknown address matches")
	}
}

func TestAdmit(t *testing.T) {
	conn := Connection{User: "ada", Host: "node.example.com", Address: "192.0.2.7", Groups: []string{"ada", "wheel"}}
	tests := []struct{ text, refusal string }{
		{"", ""},
		{"AllowUsers root ada", ""},
		{"AllowUsers root\nAllowUsers a?a", ""},
		{"AllowUsers root", "not listed in AllowUsers"},
		{"AllowUsers ada@192.0.2.0/24", ""},
		{"AllowUsers ada@*.example.org", "not listed in AllowUsers"},
		{"AllowUsers ada\nDenyUsers a*", "listed in DenyUsers"},
		{"DenyUsers ada@198.51.100.*", ""},
		{"AllowGroups wheel", ""},
		{"AllowGroups root", "none of user's groups are listed in AllowGroups"},
		{"DenyGroups wh*", "a group is listed in DenyGroups"},
		{"DenyUsers ada\nMatch Address 192.0.2.0/24\nDenyUsers eve", ""},
	}
	for _, tt := range tests {
		err := settings(t, load(t, tt.text), conn).Admit(conn)
		switch {
		case tt.refusal == "" && err != nil:
			t.Errorf("%q: %v", tt.text, err)
		case tt.refusal != "" && (err == nil || !strings.Contains(err.Error(), "User ada from 192.0.2.7 not allowed because "+tt.refusal)):
			t.Errorf("%q: %v, want %q", tt.text, err, tt.refusal)
		}
	}
}
