package squashfs

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// deflate compresses with the standard library.
func deflate(t testing.TB, level int, text []byte) []byte {
	var out bytes.Buffer
	w, err := zlib.NewWriterLevel(&out, level)
	if err == nil {
		_, err = w.Write(text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// texts are of all kinds that deflate treats in its own way.
func texts() map[string][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	noise, skewed := make([]byte, 100_000), make([]byte, 131_072)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	for i := range skewed { // rare bytes have long codes
		skewed[i] = byte(random.ExpFloat64() * 9)
	}
	return map[string][]byte{
		"empty": nil, "one": {7}, "zeros": make([]byte, 131_072), "noise": noise, "skewed": skewed,
		"words":   []byte(strings.Repeat("the quick brown fox jumps over the lazy dog; ", 2000)),
		"near":    bytes.Repeat([]byte("ab"), 3000),
		"mixture": bytes.Join([][]byte{noise[:3000], skewed[:20_000], make([]byte, 700), noise[:3000]}, []byte("-")),
	}
}

func TestInflate(t *testing.T) {
	f := &inflater{} // one for all: nothing may be left of the stream before
	for name, text := range texts() {
		for _, level := range []int{zlib.NoCompression, zlib.HuffmanOnly, 1, 6, 9} {
			stream := deflate(t, level, text)
			dst := make([]byte, len(text))
			if n, err := f.decompress(dst, stream); err != nil || !bytes.Equal(dst[:n], text) {
				t.Errorf("%s, level %d: %d bytes, %v", name, level, n, err)
			}
			if n, err := f.decompress(make([]byte, len(text)+1000), stream); err != nil || n != len(text) {
				t.Errorf("%s, level %d, with room: %d bytes, %v", name, level, n, err)
			}
			if len(text) == 0 {
				continue
			}
			if _, err := f.decompress(dst[:len(text)-1], stream); !errors.Is(err, errTooLong) {
				t.Errorf("%s, level %d, without room: %v", name, level, err)
			}
			if _, err := f.decompress(dst, stream[:len(stream)-1]); err == nil {
				t.Errorf("%s, level %d: a stream without its end is taken", name, level)
			}
		}
	}
}

// The standard library is the judge of what is a stream and what it says.
func FuzzInflate(f *testing.F) {
	for _, text := range texts() {
		for _, level := range []int{0, 1, 9} {
			f.Add(deflate(f, level, text[:min(len(text), 5000)]))
		}
	}
	ours := &inflater{}
	f.Fuzz(func(t *testing.T, stream []byte) {
		var want []byte
		r, wantErr := zlib.NewReader(bytes.NewReader(stream))
		if wantErr == nil {
			want, wantErr = io.ReadAll(io.LimitReader(r, 1<<20+1))
		}
		if len(want) > 1<<20 {
			return
		}
		for _, room := range []int{0, 500} {
			got := make([]byte, len(want)+room)
			n, err := ours.decompress(got, stream)
			if (err == nil) != (wantErr == nil) && !errors.Is(err, errTooLong) {
				t.Fatalf("error %v, the standard library: %v", err, wantErr)
			}
			if err == nil && !bytes.Equal(got[:n], want) {
				t.Fatalf("%d bytes differ from the standard library's %d", n, len(want))
			}
		}
	})
}

func BenchmarkInflate(b *testing.B) {
	text := texts()["mixture"]
	text = append(text, bytes.Repeat(text[:20_000], 5)...)[:120_000]
	stream, dst := deflate(b, 6, text), make([]byte, 128<<10)
	b.Run("buildenv", func(b *testing.B) {
		f := &inflater{}
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if _, err := f.decompress(dst, stream); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("standard", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			r, err := zlib.NewReader(bytes.NewReader(stream))
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
