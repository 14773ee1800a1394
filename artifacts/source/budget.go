package source

import (
	"context"
	"fmt"
	"sync"
)

// budget counts what has been unpacked and stops at the limits.
type budget struct {
	maxBytes, maxEntries int64

	mu             sync.Mutex // protects the following, and keeps calls of progress apart
	bytes, entries int64
	reported       int64
	progress       func(int64)
}

// reportEvery is how many bytes lie between two reports of progress.
const reportEvery = 4 << 20

// entry accounts for one more name.
func (b *budget) entry(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries++
	if b.entries > b.maxEntries {
		return fmt.Errorf("%w of %d entries", ErrTooBig, b.maxEntries)
	}
	return ctx.Err()
}

// grow accounts for n more bytes of content.
func (b *budget) grow(ctx context.Context, n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.maxBytes-b.bytes {
		return fmt.Errorf("%w of %d bytes", ErrTooBig, b.maxBytes)
	}
	b.bytes += n
	if b.bytes-b.reported >= reportEvery {
		b.reported = b.bytes
		b.progress(b.bytes)
	}
	return ctx.Err()
}
