package redact

import (
	"strings"
	"testing"
	"unicode"
)

func TestURL(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"no URL", "user@host: no route?x=1", "user@host: no route?x=1"},
		{"nothing to hide", "https://host:8443/a/b", "https://host:8443/a/b"},
		{"no path", "s3://boot-images", "s3://boot-images"},
		{"IPv6", "http://[::1]:80/x", "http://[::1]:80/x"},
		{"digest", "docker://host:5000/repo@sha256:abc", "docker://host:5000/repo@sha256:abc"},
		{"file", "file:///srv/a@b", "file:///srv/a@b"},
		{"user and password", "https://me:pw@host/x", "https://" + Mark + "@host/x"},
		{"at sign in the password", "https://me:p@w@host", "https://" + Mark + "@host"},
		{"slash in the password", "https://me:p/w@host/x", "https://" + Mark},
		{"hash in the password", "https://me:p#w@host/x", "https://" + Mark + "#" + Mark},
		{"presigned", "http://h/k?X-Amz-Signature=abc&Expires=1&flag", "http://h/k?X-Amz-Signature=" + Mark + "&Expires=" + Mark + "&" + Mark},
		{"query with a URL in it", "http://h/?next=https://a:b@c/", "http://h/?next=" + Mark},
		{"fragment", "http://h/k#access_token=abc", "http://h/k#" + Mark},
		{"in a message", `Get "https://me:pw@host/x?sig=abc": EOF, then http://a/?b=c`, `Get "https://` + Mark + `@host/x?sig=` + Mark + `": EOF, then http://a/?b=` + Mark},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := URL(test.text); got != test.want {
				t.Errorf("URL(%q)\n got %q\nwant %q", test.text, got, test.want)
			}
		})
	}
}

// What stands where a secret may stand never comes through.
func FuzzURL(f *testing.F) {
	f.Add("secret")
	f.Add("p@:w")
	f.Fuzz(func(t *testing.T, noise string) {
		if strings.ContainsFunc(noise, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("\"'<>`", r) }) {
			t.Skip("ends the URL")
		}
		const secret = "5ecret5ecret"
		for _, url := range []string{"https://u:" + secret + "@h/", "https://h/?a=" + secret, "https://h/?" + secret + "&x=y", "https://h/#" + secret} {
			if got := URL("Get " + url + noise + " x"); strings.Contains(got, secret) {
				t.Errorf("URL(%q) = %q", url+noise, got)
			}
		}
	})
}
