package fetch

import (
	"context"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"buildenv/internal/redact"
)

// final is an error that another attempt would not mend.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// permanent tells whether there is no use in trying again.
func permanent(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return !status.passing()
	}
	var certificate *tls.CertificateVerificationError
	return errors.As(err, &final{}) || errors.As(err, &certificate) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// resumable tells whether a download that ended so may be gone on with when it is
// started again.
func resumable(err error) bool {
	return !permanent(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// fetchError keeps secrets of URLs in its cause's text to itself.
type fetchError struct{ err error }

func (e *fetchError) Unwrap() error { return e.err }
func (e *fetchError) Error() string { return "fetch: " + clean(e.err) }

// query finds what follows a question mark: net/http puts relative addresses into
// its messages, too.
var query = regexp.MustCompile(`\?[^\s"']+`)

// clean is an error's text without the URL, which net/http puts before it, and
// without queries.
func clean(err error) string {
	text := err.Error()
	var u *url.Error
	if errors.As(err, &u) {
		text = strings.Replace(text, u.Error(), u.Err.Error(), 1)
	}
	return query.ReplaceAllString(redact.URL(text), "?"+redact.Mark)
}

// statusError is an answer that gives nothing.
type statusError struct {
	code   int
	detail string        // what there is to say about it
	after  time.Duration // that the server wants to be left alone
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("the server answers %d %s", e.code, http.StatusText(e.code))
	if e.detail != "" {
		text += ": " + e.detail
	}
	return text
}

// passing tells whether a server may answer otherwise later.
func (e *statusError) passing() bool {
	switch e.code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// maxComplaint bounds what is read of an answer that is none.
const maxComplaint = 8 << 10

func (d *Download) refusal(r *http.Response) error {
	e := &statusError{code: r.StatusCode, after: retryAfter(r.Header.Get("Retry-After"), time.Now())}
	body, _ := io.ReadAll(io.LimitReader(r.Body, maxComplaint)) // whatever comes is better than nothing
	said := complaint(body)
	switch {
	case e.code == http.StatusForbidden || e.code == http.StatusUnauthorized || e.code == http.StatusBadRequest:
		e.detail = join(said, signature(d.url.Query(), time.Now()))
	case e.code == http.StatusNotFound || e.code == http.StatusGone:
		e.detail = join(said, "there is no such file")
	case e.code == http.StatusRequestedRangeNotSatisfiable:
		e.detail = join(said, "the file is shorter than it was")
	default:
		e.detail = said
	}
	return e
}

func join(said, known string) string {
	if said == "" || known == "" {
		return said + known
	}
	return known + " (" + said + ")"
}

// complaint is what S3 servers say, "" if it is anything else.
func complaint(body []byte) string {
	var said struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}
	if xml.Unmarshal(body, &said) != nil || said.Code == "" {
		return ""
	}
	return cut(strings.TrimSuffix(said.Code+": "+said.Message, ": "))
}

// cut makes words of a server's fit for a message.
func cut(text string) string {
	const most = 200
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, "?"))
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "..."
	}
	return text
}

// signature is what there is to say about a presigned URL that is refused.
func signature(q url.Values, now time.Time) string {
	end, signed := expiry(q)
	switch {
	case !signed:
		return ""
	case end.IsZero():
		return "the signature of the URL is not accepted; it may have expired"
	case now.After(end):
		return "the presigned URL has expired at " + end.UTC().Format(time.RFC3339)
	}
	return "the signature of the URL is not accepted, though it is good until " + end.UTC().Format(time.RFC3339)
}

// expiry is when a presigned URL ends, as signature versions 4 and 2 of S3 write
// it; zero if it cannot be understood, false if there is no signature.
func expiry(q url.Values) (end time.Time, signed bool) {
	switch {
	case q.Has("X-Amz-Signature"):
		begin, err := time.Parse("20060102T150405Z", q.Get("X-Amz-Date"))
		seconds, err2 := strconv.ParseUint(q.Get("X-Amz-Expires"), 10, 31)
		if err != nil || err2 != nil {
			return time.Time{}, true
		}
		return begin.Add(time.Duration(seconds) * time.Second), true
	case q.Has("Signature"):
		seconds, err := strconv.ParseUint(q.Get("Expires"), 10, 36)
		if err != nil {
			return time.Time{}, true
		}
		return time.Unix(int64(seconds), 0), true
	}
	return time.Time{}, false
}
