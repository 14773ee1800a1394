package fetch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// retryAfter reads a header of that name: seconds or a date; 0 for none.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// enough is how much must have come for the attempts to be counted anew. A server
// that gives a byte for each request is not gone on with for ever.
const enough = 1 << 20

// patience says how long to try.
type patience struct {
	*Download
	attempts int           // that are made
	longest  time.Duration // pause that is made, whatever the server asks for
	failed   int
	position int64 // at the first of those that failed
}

// after waits before the next attempt. It returns the error if there is to be none.
func (p *patience) after(err error, position int64) error {
	if err == nil {
		return nil
	}
	if p.ctx.Err() != nil {
		return p.ctx.Err()
	}
	if permanent(err) {
		return err
	}
	if position-p.position >= enough {
		p.position, p.failed = position, 0
	}
	if p.failed++; p.failed >= p.attempts {
		return fmt.Errorf("gave up after %d attempts: %w", p.failed, err)
	}
	pause := p.pause(err)
	p.opts.Log.Warn("fetching is tried again", "url", show(p.url), "at", position, "in", pause, "reason", clean(err))
	return sleep(p.ctx, pause)
}

// pause doubles with each attempt, is shortened by chance so that many clients do
// not come back together, and is what the server asks for if that is longer.
func (p *patience) pause(err error) time.Duration {
	wait := p.limits.pause << min(p.failed-1, 30)
	wait = min(wait, p.longest/4)
	wait -= rand.N(wait/2 + 1)
	var status *statusError
	if errors.As(err, &status) {
		wait = max(wait, status.after)
	}
	return min(wait, p.longest)
}

func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
