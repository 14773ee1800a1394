package session

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"buildenv/internal/wording"
)

// process is a job that leads an operating-system session of its own.
type process struct {
	cmd   *exec.Cmd
	shell bool          // an interactive shell: nothing is lost when it is hung up
	tell  func(string)  // shows a message to its user, nil for a subsystem
	ended chan struct{} // closed when the leader has been reaped

	unattended atomic.Bool   // its client has left
	refused    chan struct{} // closed when its client takes no more output
	refuse     func()        // closes refused
	plumbing
}

// plumbing connects a process with its channel.
type plumbing struct {
	stdin   *os.File // our end
	outputs []outlet
	theirs  []*os.File // the process's standard input, output and error
	isTTY   bool
	copying *sync.WaitGroup // done when all output is with the client
}

// outlet is one stream of output.
type outlet struct {
	from *os.File
	to   io.Writer
}

func newProcess(cmd *exec.Cmd) *process {
	p := &process{cmd: cmd, ended: make(chan struct{}), refused: make(chan struct{})}
	p.refuse = sync.OnceFunc(func() { close(p.refused) })
	return p
}

// runProcess runs a request with the account's shell and waits for its end.
func (s *session) runProcess(where place, actual, wanted request) {
	if where.shellErr != nil {
		s.fail(notStarted(where.shell, false, s.Jail != "", where.shellErr))
		return
	}
	s.greet(where, actual)
	p := newProcess(s.command(where, actual, wanted))
	p.shell = actual.kind == "shell" && s.tty != nil
	if wanted.kind != "subsystem" { // its client speaks a protocol
		p.tell = s.tell
	}
	if err := s.start(p, where); err != nil {
		s.fail(notStarted(where.shell, true, s.Jail != "", err))
		return
	}
	s.attend(p)
}

// greet shows what sshd shows before a job's own output.
func (s *session) greet(where place, actual request) {
	stdout, stderr := s.streams()
	if actual.kind == "shell" && s.tty != nil && !where.hushedLogin {
		io.WriteString(stdout, s.Greeting)
	}
	for _, complaint := range where.complaints {
		fmt.Fprintln(stderr, complaint)
	}
	if where.homeErr != nil && s.Jail == "" {
		fmt.Fprintf(stderr, "Could not chdir to home directory %s: %s\n", s.Account.Home, wording.Reason(where.homeErr))
	}
}

// command is the job: a login shell (its name begins with a dash), or the
// shell with the text of the command, which is passed on as it came.
func (s *session) command(where place, actual, wanted request) *exec.Cmd {
	name := path.Base(where.shell)
	args := []string{"-" + name}
	if actual.kind != "shell" {
		args = []string{name, "-c", actual.command}
	}
	var original *string
	if s.Policy.ForceCommand != "" && wanted.kind != "shell" {
		original = &wanted.command
	}
	return &exec.Cmd{
		Path: where.shell,
		Args: args,
		Dir:  where.directory,
		Env:  s.environ(where, original),
		SysProcAttr: &syscall.SysProcAttr{
			Chroot:  s.Jail,
			Setsid:  true,
			Setctty: s.tty != nil, // its standard input, descriptor 0
		},
	}
}

// start connects and starts p, and lets the table and the channel's requests know it.
func (s *session) start(p *process, where place) error {
	var err error
	if p.plumbing, err = s.connect(); err != nil {
		return err
	}
	s.copyOutputs(p)
	s.runRC(where.rc, where, p.cmd.Env, p.theirs)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = p.theirs[0], p.theirs[1], p.theirs[2]
	err = s.Table.start(p, func() error { return s.launch(p) })
	closeAll(p.theirs) // or their end would never come
	if err != nil {
		p.disconnect()
	}
	return err
}

// launch starts p. Its first output may bring a signal in answer, which has to
// find it.
func (s *session) launch(p *process) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := p.cmd.Start(); err != nil {
		return err
	}
	s.process = p
	return nil
}

// copyOutputs begins to copy what the job, and what runs before it, writes.
func (s *session) copyOutputs(p *process) {
	p.copying = new(sync.WaitGroup)
	for _, o := range p.outputs {
		p.copying.Go(func() {
			defer s.contain("output")
			defer o.from.Close() // nobody reads any more: the writer shall know
			copyOutput(o.to, o.from)
		})
	}
}

// connect makes pipes, or uses the terminal. Files of our own, not exec.Cmd's
// pipes: those are closed by Wait, with output still in them.
func (s *session) connect() (plumbing, error) {
	if s.tty != nil {
		return plumbing{
			stdin:   s.tty.master,
			outputs: []outlet{{s.tty.master, s.out}},
			theirs:  []*os.File{s.tty.slave, s.tty.slave, s.tty.slave},
			isTTY:   true,
		}, nil
	}
	var ours, theirs []*os.File
	for i := range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(append(ours, theirs...))
			return plumbing{}, fmt.Errorf("connect session: %w", err)
		}
		widen(w)
		if i == 0 {
			r, w = w, r
		}
		ours, theirs = append(ours, r), append(theirs, w)
	}
	outputs := []outlet{{ours[1], s.out}, {ours[2], errorOutput{s.out}}}
	return plumbing{stdin: ours[0], outputs: outputs, theirs: theirs}, nil
}

// pipeSize is how much a pipe holds, in bytes: more than usual (pipe(7)), so that
// client and program wait for each other less often.
const pipeSize = 256 << 10

// widen does without where the system does not permit it.
func widen(pipe *os.File) {
	if raw, err := pipe.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
	}
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close() // twice for a terminal, which does no harm
	}
}

// attend serves a running process to its end; the package comment has the order.
func (s *session) attend(p *process) {
	stop := context.AfterFunc(s.ctx, p.abandon)
	defer stop()
	go s.feed(p) // ends with the channel or with its first failed write
	s.sendExit(outcomeOf(p.wait()))
	s.Table.forget(p)
	if !p.isTTY {
		p.stdin.Close()
	}
	if p.drained() {
		s.out.closeWrite()
	}
}

// refusedPatience bounds how long output may still be on its way to a client
// that has said it takes no more.
const refusedPatience = 300 * time.Millisecond

// drained waits until all output is with the client. One that takes no more
// need not grant a window for what is under way (OpenSSH's does not): then only
// the channel's end frees the copiers.
func (p *process) drained() bool {
	all := make(chan struct{})
	go func() {
		p.copying.Wait()
		close(all)
	}()
	select {
	case <-all:
		return true
	case <-p.refused:
	}
	select {
	case <-all:
		return true
	case <-time.After(refusedPatience):
		return false
	}
}

// feed copies input. The client's EOF is passed on by pipes; on a terminal
// there is no such thing, and hanging up would be more than was said.
func (s *session) feed(p *process) {
	defer s.contain("input")
	copyInput(p.stdin, s.channel)
	if !p.isTTY {
		p.stdin.Close()
	}
}

// wait reaps the leader and says so at once: from then on its number may be
// another process's.
func (p *process) wait() syscall.WaitStatus {
	p.cmd.Wait()
	close(p.ended)
	if p.cmd.ProcessState == nil { // somebody else reaped it
		return syscall.WaitStatus(exitNoSession << 8)
	}
	return p.cmd.ProcessState.Sys().(syscall.WaitStatus)
}

// abandon is what remains to do when the client has left.
func (p *process) abandon() {
	p.unattended.Store(true)
	p.disconnect()
}

// disconnect closes our ends: a terminal is hung up, pipes are broken.
func (p *process) disconnect() {
	p.stdin.Close()
	for _, o := range p.outputs {
		o.from.Close()
	}
}

// closeOutput breaks the pipe of standard output. A terminal has no such half.
func (p *process) closeOutput() {
	p.refuse()
	if !p.isTTY {
		p.outputs[0].from.Close()
	}
}

// signal goes to the leader's process group. It reports whether it was sent.
func (p *process) signal(number unix.Signal) bool {
	return !p.exited() && unix.Kill(-p.cmd.Process.Pid, number) == nil
}

func (p *process) exited() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}
