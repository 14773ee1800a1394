package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

// errEnding is returned when a job wants to start after End.
var errEnding = errors.New("the server is ending")

// Table knows every job of a server. The zero Table is empty and ready.
type Table struct {
	mu       sync.Mutex // protects the following
	ending   bool
	starting int // jobs that are about to start
	running  int // sessions whose job has not ended, or that have not written down yet how
	jobs     map[job]struct{}
}

// job is something that shutdown has to end.
type job interface {
	// end ends it and returns when it has ended, or why it has not. Whoever
	// needs it gets grace to finish by itself.
	end(ctx context.Context, message string, grace time.Duration) error
	// over reports whether nothing is left of it.
	over() bool
}

// start runs begin, which starts j, unless the server is ending. End waits for
// it, so that it knows all that has started.
func (t *Table) start(j job, begin func() error) error {
	if !t.enter() {
		return errEnding
	}
	defer t.leave()
	if err := begin(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.jobs == nil {
		t.jobs = map[job]struct{}{}
	}
	t.jobs[j] = struct{}{}
	return nil
}

// enter counts a start in progress, unless it comes too late.
func (t *Table) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ending {
		return false
	}
	for old := range t.jobs { // what was left behind may have ended meanwhile
		if old.over() {
			delete(t.jobs, old)
		}
	}
	t.starting++
	return true
}

func (t *Table) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.starting--
}

func (t *Table) settled() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.starting == 0
}

// forget drops j unless something of it is left.
func (t *Table) forget(j job) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if j.over() {
		delete(t.jobs, j)
	}
}

// enterRun counts a session until what it gives is called.
func (t *Table) enterRun() func() {
	count := func(n int) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.running += n
	}
	count(1)
	return func() { count(-1) }
}

// Settle waits, for patience at most, until every session whose job has ended
// has written down how: its last line in the audit log, the end of its recording.
// It is for the time between the last connection and the end of the server.
func (t *Table) Settle(patience time.Duration) {
	await(context.Background(), patience, nil, t.writtenDown)
}

func (t *Table) writtenDown() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := 0 // behind by their clients, and still running
	for j := range t.jobs {
		if p, ok := j.(*process); ok && !p.exited() {
			left++
		}
	}
	return t.running <= left
}

// End ends every job and lets no new one start. Terminals are shown message.
// Interactive shells and what clients left behind are hung up at once;
// commands and transfers under way get grace to finish by themselves, then
// SIGHUP, SIGTERM and SIGKILL. It returns when nothing is left, or with what
// is left. When ctx ends it stops waiting, for jobs that are about to start too,
// and between the steps. Processes that made a session of their own (setsid(1),
// daemons) are not found.
func (t *Table) End(ctx context.Context, message string, grace time.Duration) error {
	t.mu.Lock()
	t.ending = true
	t.mu.Unlock()
	var late error
	if !await(ctx, forever, nil, t.settled) {
		late = fmt.Errorf("end sessions: one is still about to start: %w", ctx.Err())
	}
	jobs := t.all()
	errs := make([]error, len(jobs))
	var all sync.WaitGroup
	for i, j := range jobs {
		all.Go(func() { errs[i] = j.end(ctx, message, grace) })
	}
	all.Wait()
	return errors.Join(append(errs, late)...)
}

func (t *Table) all() []job {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(t.jobs))
}

// forever is patience that only a context ends.
const forever = math.MaxInt64

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
