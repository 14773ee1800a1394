package redact

import (
	"regexp"
	"strings"
)

// address finds URLs in running text. They end at white space and at the
// quotation marks that surround them in messages.
var address = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>` + "`" + `]+`)

// badPort finds what follows a colon and cannot be a port number.
var badPort = regexp.MustCompile(`:.*[^0-9]`)

// URL is text with the secrets of all URLs in it replaced: user information
// (RFC 3986 section 3.2.1), the values of the query, as presigned URLs carry
// their signature there, and the fragment. Names in the query stay: they say
// what kind of URL it was.
func URL(text string) string { return address.ReplaceAllStringFunc(text, clean) }

// clean works on the text and not on a parsed URL: one that does not parse may
// hold a password as well.
func clean(url string) string {
	url, _, fragment := strings.Cut(url, "#")
	url, query, queried := strings.Cut(url, "?")
	cleaned := cleanAuthority(url)
	if queried {
		cleaned += "?" + cleanQuery(query)
	}
	if fragment {
		cleaned += "#" + Mark
	}
	return cleaned
}

func cleanAuthority(url string) string {
	scheme, rest, _ := strings.Cut(url, "://")
	authority, _, _ := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		return scheme + "://" + Mark + rest[at:]
	}
	if !strings.HasPrefix(authority, "[") && badPort.MatchString(authority) {
		return scheme + "://" + Mark // the beginning of a password in which "/", "?" or "#" were not escaped
	}
	return url
}

func cleanQuery(query string) string {
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		name, _, named := strings.Cut(pair, "=")
		if named {
			pairs[i] = name + "=" + Mark
		} else {
			pairs[i] = Mark
		}
	}
	return strings.Join(pairs, "&")
}
