package fetch

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestSpans(t *testing.T) {
	tests := []struct {
		name string
		add  []span
		want spans
	}{
		{"none", nil, nil},
		{"nothing", []span{{5, 5}}, nil},
		{"apart", []span{{5, 6}, {1, 2}, {3, 4}}, spans{{1, 2}, {3, 4}, {5, 6}}},
		{"touching before", []span{{5, 6}, {4, 5}}, spans{{4, 6}}},
		{"touching behind", []span{{5, 6}, {6, 7}}, spans{{5, 7}}},
		{"between", []span{{1, 2}, {5, 6}, {2, 5}}, spans{{1, 6}}},
		{"over several", []span{{1, 2}, {3, 4}, {5, 6}, {9, 10}, {0, 8}}, spans{{0, 8}, {9, 10}}},
		{"within", []span{{1, 9}, {3, 4}}, spans{{1, 9}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got spans
			for _, s := range test.add {
				got.add(s)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

// Spans answer as a bit for each byte would.
func TestSpansAgainstBits(t *testing.T) {
	const size = 40
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var bits [size + 1]bool // the last stays false
		var all spans
		for range r.IntN(12) {
			from := r.Int64N(size)
			s := span{from, from + r.Int64N(size-from+1)}
			all.add(s)
			for i := s.from; i < s.to; i++ {
				bits[i] = true
			}
		}
		total := int64(0)
		for at := range int64(size) {
			end, run := at, int64(1)
			for bits[end] {
				end++
			}
			for at+run < size && bits[at+run] == bits[at] {
				run++
			}
			if bits[at] {
				total++
			}
			if got := all.end(at); got != end {
				t.Fatalf("%v: end(%d) is %d, want %d", all, at, got, end)
			}
			if got, there := all.run(at, size-at); got != run || there != bits[at] {
				t.Fatalf("%v: run(%d) is %d %v, want %d %v", all, at, got, there, run, bits[at])
			}
		}
		if got := all.total(); got != total {
			t.Fatalf("%v: %d bytes, want %d", all, got, total)
		}
	}
}

func TestContentRange(t *testing.T) {
	tests := []struct {
		text           string
		from, to, size int64
		bad            bool
	}{
		{text: "bytes 0-99/200", from: 0, to: 100, size: 200},
		{text: "bytes 5-5/6", from: 5, to: 6, size: 6},
		{text: "bytes 5-9/*", from: 5, to: 10, size: unknown},
		{text: "bytes 0-4611686018427387902/4611686018427387903", to: 1<<62 - 1, size: 1<<62 - 1},
		{text: "", bad: true},
		{text: "bytes */200", bad: true},
		{text: "bytes 9-5/200", bad: true},
		{text: "bytes 0-200/200", bad: true},
		{text: "bytes -1-5/200", bad: true},
		{text: "bytes +1-5/200", bad: true},
		{text: "bytes 1-5", bad: true},
		{text: "bytes 1/5", bad: true},
		{text: "items 0-99/200", bad: true},
		{text: "bytes 0-99/200 ", bad: true},
		{text: "bytes 0-99999999999999999999/*", bad: true},
		{text: "bytes 0-9223372036854775807/*", bad: true},
	}
	for _, test := range tests {
		t.Run(test.text, func(t *testing.T) {
			from, to, size, err := contentRange(test.text)
			if test.bad != errors.Is(err, errContentRange) {
				t.Fatalf("error %v", err)
			}
			if from != test.from || to != test.to || size != test.size {
				t.Errorf("%d to %d of %d, want %d to %d of %d", from, to, size, test.from, test.to, test.size)
			}
		})
	}
}

// What is read of a Content-Range is possible, and says the same when it is written.
func FuzzContentRange(f *testing.F) {
	for _, seed := range []string{"bytes 0-99/200", "bytes 5-9/*", "bytes */9", "bytes 9-5/200", "bytes 00-1/2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		from, to, size, err := contentRange(text)
		if err != nil {
			if !errors.Is(err, errContentRange) {
				t.Errorf("error %v", err)
			}
			return
		}
		if from < 0 || from >= to || size != unknown && to > size {
			t.Fatalf("%q: %d to %d of %d", text, from, to, size)
		}
		whole := "*"
		if size != unknown {
			whole = fmt.Sprint(size)
		}
		again := fmt.Sprintf("bytes %d-%d/%s", from, to-1, whole)
		if f2, t2, s2, err := contentRange(again); err != nil || f2 != from || t2 != to || s2 != size {
			t.Errorf("%q is read as %q, and that as %d to %d of %d, error %v", text, again, f2, t2, s2, err)
		}
	})
}

func TestCondition(t *testing.T) {
	const date, later = "Mon, 01 Jan 2024 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:05 GMT"
	tests := []struct {
		name                string
		size                int64
		tag, modified, date string
		want                string
	}{
		{"tag", 5, `"a"`, date, later, `"a"`},
		{"weak tag", 5, `W/"a"`, date, later, ""},
		{"date", 5, "", date, later, date},
		{"date of this second", 5, "", date, date, ""},
		{"date of a server without a clock", 5, "", date, "", ""},
		{"nothing", 5, "", "", later, ""},
		{"unknown size", unknown, `"a"`, date, later, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := http.Header{}
			for name, value := range map[string]string{"ETag": test.tag, "Last-Modified": test.modified, "Date": test.date} {
				if value != "" {
					h.Set(name, value)
				}
			}
			if got := newVersion(h, test.size).condition(); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "soon": 0, "99999999999999": 0,
		"Mon, 01 Jan 2024 00:01:00 GMT": time.Minute,
		"Sun, 31 Dec 2023 00:01:00 GMT": 0,
	}
	for text, want := range tests {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestPause(t *testing.T) {
	p := patience{Download: &Download{limits: limits{pause: time.Second}}, longest: time.Minute}
	plain, asked, forEver := errors.New("x"), &statusError{after: 20 * time.Second}, &statusError{after: time.Hour}
	tests := []struct {
		failed         int
		err            error
		least, longest time.Duration
	}{
		{1, plain, time.Second / 2, time.Second},
		{3, plain, 2 * time.Second, 4 * time.Second},
		{60, plain, 7500 * time.Millisecond, 15 * time.Second},
		{1, asked, 20 * time.Second, 20 * time.Second},
		{1, forEver, time.Minute, time.Minute},
	}
	for _, test := range tests {
		for range 100 {
			p.failed = test.failed
			if got := p.pause(test.err); got < test.least || got > test.longest {
				t.Fatalf("attempt %d, %v: %v, want %v to %v", test.failed, test.err, got, test.least, test.longest)
			}
		}
	}
}

func TestSignature(t *testing.T) {
	now := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := []struct{ name, query, want string }{
		{"none", "id=5", ""},
		{"version 4", "X-Amz-Signature=a&X-Amz-Date=20231231T230000Z&X-Amz-Expires=60", "the presigned URL has expired at 2023-12-31T23:01:00Z"},
		{"version 4, good", "X-Amz-Signature=a&X-Amz-Date=20231231T230000Z&X-Amz-Expires=86400", "the signature of the URL is not accepted, though it is good until 2024-01-01T23:00:00Z"},
		{"version 4, nonsense", "X-Amz-Signature=a&X-Amz-Date=x&X-Amz-Expires=60", "the signature of the URL is not accepted; it may have expired"},
		{"version 2", "AWSAccessKeyId=a&Signature=b&Expires=1700000000", "the presigned URL has expired at 2023-11-14T22:13:20Z"},
		{"version 2, nonsense", "Signature=b&Expires=x", "the signature of the URL is not accepted; it may have expired"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			q, err := url.ParseQuery(test.query)
			if err != nil {
				t.Fatal(err)
			}
			if got := signature(q, now); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// What a server complains of is fit for a message, whatever it is.
func FuzzComplaint(f *testing.F) {
	for _, seed := range []string{
		"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>", "<Error><Code>a\x1b[2J\nb</Code></Error>",
		"<Error><Code>&#27;&amp;</Code></Error>", "<html>", "", "<Error><Code>" + strings.Repeat("x", 5000) + "</Code></Error>",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		said := complaint(body)
		if utf8.RuneCountInString(said) > 203 || !utf8.ValidString(said) || strings.ContainsFunc(said, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q", said)
		}
	})
}

// Nothing is shown of a URL that could be a secret.
func TestShow(t *testing.T) {
	for text, want := range map[string]string{
		"https://user:pw@host:8443/a/b?sig=x#y": "https://host:8443/a/b",
		"http://host/%zz?sig=x":                 "**redacted**",
		"http://[::1]:80/a b":                   "http://[::1]:80/a%20b",
	} {
		if got := Show(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestURL(t *testing.T) {
	for _, text := range []string{"", "file:///etc/passwd", "https://", "http://host/%zz", "ftp://host/x", "host/x"} {
		if _, err := Start(t.Context(), Options{URL: text, Spool: t.TempDir() + "/spool"}); err == nil {
			t.Errorf("%q is no error", text)
		}
	}
}
