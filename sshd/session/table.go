package session

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errEnding is returned when a job wants to start after End.
var errEnding = errors.New("the server is ending")

// Table knows every job of a server. The zero Table is empty and ready.
type Table struct {
	mu     sync.Mutex // protects the following
	ending bool
	jobs   map[job]struct{}
}

// job is something that shutdown has to end.
type job interface {
	// end ends it and returns when it has ended, or why it has not. Whoever
	// needs it gets grace to finish by itself.
	end(ctx context.Context, message string, grace time.Duration) error
	// over reports whether nothing is left of it.
	over() bool
}

// start runs begin, which starts j, unless the server is ending. It holds the
// lock meanwhile: what has started is known to End, what End did not see never starts.
func (t *Table) start(j job, begin func() error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ending {
		return errEnding
	}
	for old := range t.jobs { // what was left behind may have ended meanwhile
		if old.over() {
			delete(t.jobs, old)
		}
	}
	if err := begin(); err != nil {
		return err
	}
	if t.jobs == nil {
		t.jobs = map[job]struct{}{}
	}
	t.jobs[j] = struct{}{}
	return nil
}

// exited notes that the leader of p has ended. Its children may live on.
func (t *Table) exited(p *process) {
	close(p.ended)
	t.forget(p)
}

// forget drops j unless something of it is left.
func (t *Table) forget(j job) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if j.over() {
		delete(t.jobs, j)
	}
}

// End ends every job and lets no new one start. Terminals are shown message.
// Interactive shells and what clients left behind are hung up at once;
// commands and transfers under way get grace to finish by themselves, then
// SIGHUP, SIGTERM and SIGKILL. It returns when nothing is left, or with what
// is left. When ctx ends it stops waiting between the steps. Processes that
// made a session of their own (setsid(1), daemons) are not found.
func (t *Table) End(ctx context.Context, message string, grace time.Duration) error {
	t.mu.Lock()
	t.ending = true
	jobs := make([]job, 0, len(t.jobs))
	for j := range t.jobs {
		jobs = append(jobs, j)
	}
	t.mu.Unlock()
	errs := make([]error, len(jobs))
	var all sync.WaitGroup
	for i, j := range jobs {
		all.Go(func() { errs[i] = j.end(ctx, message, grace) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// pollInterval is how often await looks. Most ends it waits for, those of
// other processes' children, announce themselves to nobody.
const pollInterval = 5 * time.Millisecond

// await waits until done, for patience at most, and reports whether it is. It
// looks at once when hint is closed.
func await(ctx context.Context, patience time.Duration, hint <-chan struct{}, done func() bool) bool {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for !done() {
		select {
		case <-hint:
			hint = nil // it says so once
		case <-tick.C:
		case <-limit.C:
			return done()
		case <-ctx.Done():
			return done()
		}
	}
	return true
}
