package sftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// one is one packet, for tests that speak without a client.
func one(kind byte, fields ...any) string { return string(encode(kind, 1, nil, fields...)) }

func TestMalformedPacketsEndTheSession(t *testing.T) {
	long := binary.BigEndian.AppendUint32(nil, maxPacket+1)
	tests := []struct {
		name, stream string
		want         error
	}{
		{"nothing", "", nil},
		{"only hello", hello, nil},
		{"unknown packet type", hello + one(99), nil},
		{"cut in the length", hello + "\x00\x00", io.ErrUnexpectedEOF},
		{"cut in the body", hello + "\x00\x00\x00\x05\x11", io.ErrUnexpectedEOF},
		{"empty packet", hello + "\x00\x00\x00\x00", errMalformed},
		{"too long", hello + string(long), errMalformed},
		{"absurdly long", hello + "\xff\xff\xff\xff", errMalformed},
		{"no hello", one(fxpStat, "/"), errMalformed},
		{"hello without version", "\x00\x00\x00\x01\x01", errMalformed},
		{"no id", hello + "\x00\x00\x00\x01\x11", errMalformed},
		{"string beyond the packet", hello + one(fxpStat, raw("\x7f\xff\xff\xff/")), errMalformed},
		{"attributes missing", hello + one(fxpSetstat, "/", raw("\x00\x00\x00\x04")), errMalformed},
		{"endless extended attributes", hello + one(fxpMkdir, "/", raw("\x80\x00\x00\x00\xff\xff\xff\xff")), errMalformed},
		{"read without length", hello + one(fxpRead, "handle", uint64(0)), errMalformed},
		{"extension without name", hello + one(fxpExtended), errMalformed},
		{"extension without fields", hello + one(fxpExtended, "copy-data"), errMalformed},
	}
	j := enter(t, "")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			err := Serve(t.Context(), stdio{strings.NewReader(test.stream), &out}, j, Options{})
			if !errors.Is(err, test.want) {
				t.Errorf("got error %v, want %v", err, test.want)
			}
		})
	}
}

// A client may take the order of replies for that of its requests: OpenSSH's scp
// does, and loses the rest of a file when a read is answered before an earlier one.
func TestRepliesKeepTheOrderOfRequests(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "large")
	if err := os.WriteFile(file, make([]byte, 8*maxData), 0o600); err != nil {
		t.Fatal(err)
	}
	c := startServe(t, enter(t, ""), Options{Home: dir})
	c.open("f", fxpOpen, file, openRead, attrs{})
	var ids []uint32
	sent := make(chan struct{})
	first := c.id + 1
	go func() {
		defer close(sent)
		for range 20 {
			for part := range 4 {
				c.send(fxpRead, ref("f"), uint64(part*maxData), maxData)
			}
			c.send(77)                                      // no such request
			c.send(fxpRead, "no such handle", uint64(0), 1) // refused before anything is read
			c.send(fxpRead, ref("f"), uint64(1<<40), 1)     // behind the end
		}
	}()
	for range 20 * 7 {
		ids = append(ids, c.read().id)
	}
	<-sent
	for i, id := range ids {
		if id != first+uint32(i) {
			t.Fatalf("reply %d is to request %d, want %d: %v", i, id, first+uint32(i), ids)
		}
	}
}

// What is malformed in one way only for the system gets an answer.
func TestOddArgumentsAreAnswered(t *testing.T) {
	c := startServe(t, enter(t, ""), Options{Home: t.TempDir()})
	for _, test := range []struct {
		kind   byte
		fields []any
		want   uint32
	}{
		{fxpStat, []any{"with\x00nul"}, statusBadMessage},
		{fxpMkdir, []any{"", attrs{}}, statusNoSuchFile},
		{fxpOpendir, []any{strings.Repeat("x/", 100000)}, statusBadMessage},
		{fxpClose, []any{strings.Repeat("h", 1000)}, statusNoSuchFile},
		{fxpExtended, []any{"users-groups-by-id@openssh.com", "odd", strings.Repeat("\x00", 250000)}, statusFailure},
		{fxpExtended, []any{"expand-path@openssh.com", "~nobody-by-this-name/x"}, statusNoSuchFile},
		{77, nil, statusUnsupported},
	} {
		r := c.call(test.kind, test.fields...)
		if code := r.body.u32(); r.kind != fxpStatus || code != test.want {
			t.Errorf("type %d %.40q: got %v, want status %d", test.kind, test.fields, r, test.want)
		}
	}
}

// blocked is a stream whose client neither sends nor takes anything, until it
// is closed.
type blocked struct{ closed chan struct{} }

func (b blocked) Read([]byte) (int, error)  { <-b.closed; return 0, io.EOF }
func (b blocked) Write([]byte) (int, error) { <-b.closed; return 0, io.ErrClosedPipe }

func TestServeReturnsWhenContextEnds(t *testing.T) {
	stream := blocked{make(chan struct{})}
	defer close(stream.closed)
	floods := strings.Repeat(one(fxpStat, "/"), 1000)
	for name, rw := range map[string]io.ReadWriter{
		"blocked in read":  stream,
		"blocked in write": stdio{strings.NewReader(hello + floods), stream},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			served := make(chan error, 1)
			go func() { served <- Serve(ctx, rw, enter(t, ""), Options{}) }()
			gone := errors.New("server stops")
			cancel(gone)
			if err := <-served; !errors.Is(err, gone) {
				t.Errorf("got %v, want %v", err, gone)
			}
		})
	}
}

func TestServeReportsAClientThatIsGone(t *testing.T) {
	r, w := pipe(t)
	r.Close()
	err := Serve(t.Context(), stdio{strings.NewReader(hello), w}, enter(t, ""), Options{})
	if !errors.Is(err, unix.EPIPE) {
		t.Errorf("got %v, want %v", err, unix.EPIPE)
	}
}

// A client may send everything before it reads the first answer; what it gets
// is what it would have got by waiting, for each request once.
func TestRequestsInFlightKeepTheirOrder(t *testing.T) {
	dir := t.TempDir()
	c := startServe(t, enter(t, ""), Options{Home: dir})
	c.open("f", fxpOpen, "f", openRead|openWrite|openCreate, attrs{})
	const rounds = 300
	want := make(map[uint32]string) // content by request id
	others := make(map[uint32]bool)
	allSent := make(chan struct{})
	go func() {
		defer close(allSent)
		for i := range rounds {
			word := strings.Repeat(string(rune('a'+i%26)), 1000)
			for range 3 {
				others[c.send(fxpWrite, ref("f"), uint64(0), word)] = true
				want[c.send(fxpRead, ref("f"), uint64(0), 1000)] = word
				want[c.send(fxpRead, ref("f"), uint64(500), 1000)] = word[500:]
			}
		}
		others[c.send(fxpExtended, "fsync@openssh.com", ref("f"))] = true
		others[c.send(fxpClose, ref("f"))] = true
		others[c.send(fxpRename, "f", "g")] = true
	}()
	replies := make(map[uint32]reply)
	for range rounds*9 + 3 {
		r := c.read()
		replies[r.id] = r
	}
	<-allSent
	for id, word := range want {
		if r := replies[id]; r.kind != fxpData || r.body.string() != word {
			t.Fatalf("read %d: got %.60v, want %.20q…", id, r, word)
		}
	}
	for id := range others {
		if r := replies[id]; r.kind != fxpStatus || r.body.u32() != statusOK {
			t.Errorf("request %d: %v", id, r)
		}
	}
	if st, err := os.Stat(filepath.Join(dir, "g")); err != nil || st.Size() != 1000 {
		t.Errorf("after rename: %v, %v", st, err)
	}
}

// OpenSSH's scp loses the rest of a file whose parts come in another order than
// it asked for them. A small part is ready long before a large one.
func TestRepliesKeepTheOrderOfReads(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), make([]byte, maxData), 0o600); err != nil {
		t.Fatal(err)
	}
	c := startServe(t, enter(t, ""), Options{Home: dir})
	c.open("f", fxpOpen, "f", openRead, attrs{})
	const reads = 400
	first := c.id + 1
	go func() {
		for i := range reads {
			c.send(fxpRead, ref("f"), uint64(0), []int{maxData, 1}[i%2])
		}
	}()
	for i := range reads {
		if r := c.read(); r.id != first+uint32(i) {
			t.Errorf("reply %d is to request %d, want %d", i, r.id, first+uint32(i))
		}
	}
}

func TestHandlesAreBounded(t *testing.T) {
	dir := t.TempDir()
	c := startServe(t, enter(t, ""), Options{Home: dir})
	for i := range maxHandles {
		if r := c.open("last", fxpOpendir, "."); r.kind != fxpHandle {
			t.Fatalf("handle %d: %v", i, r)
		}
	}
	if r := c.call(fxpOpen, "f", openWrite|openCreate, attrs{}); r.kind != fxpStatus || r.body.u32() != statusFailure {
		t.Errorf("one handle too many: %v", r)
	}
	if _, err := os.Lstat(filepath.Join(dir, "f")); err == nil {
		t.Error("a refused open created its file")
	}
	c.call(fxpClose, ref("last"))
	if r := c.call(fxpOpen, "f", openWrite|openCreate, attrs{}); r.kind != fxpHandle {
		t.Errorf("after a close: %v", r)
	}
}

func TestReadIsCappedToOnePacket(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), make([]byte, 2*maxPacket), 0o600); err != nil {
		t.Fatal(err)
	}
	c := startServe(t, enter(t, ""), Options{Home: dir})
	c.open("f", fxpOpen, "f", openRead, attrs{})
	r := c.call(fxpRead, ref("f"), uint64(0), -1)
	if n := len(r.body.bytes()); r.kind != fxpData || n != maxData {
		t.Errorf("got type %d with %d bytes, want %d", r.kind, n, maxData)
	}
}
