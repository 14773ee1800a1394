package entrypoint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"buildenv/internal/fsx"
	"buildenv/sshd"
)

// stopPatience bounds the end of sessions that have been told to end.
const stopPatience = 10 * time.Second

// serve listens until it is told to stop, or for one client.
func (c *sshdCommand) serve(ctx context.Context) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, unix.SIGHUP)
	defer signal.Stop(hangups)
	if err := c.server.Start(ctx); err != nil {
		return err
	}
	if c.cl.Debug == 0 {
		c.writePID(c.server.PidFile())
	}
	if err := c.front.serving(c.logs.onStderr()); err != nil {
		return errors.Join(err, c.server.Close())
	}
	c.notify(serviceReady)
	ctx = c.front.watch(ctx)
	served, end := context.WithCancel(ctx)
	if c.cl.Debug > 0 { // the server stops listening by itself
		go func() {
			c.server.Wait(ctx)
			end()
		}()
	}
	defer end()
	for {
		select {
		case <-hangups:
			c.notify(serviceReloading())
			c.reload(ctx)
			c.notify(serviceReady)
		case <-served.Done():
			return c.stop(ctx)
		}
	}
}

// reload puts the configuration into force as it is now. One with mistakes
// changes nothing: whoever made them may have no other way in.
func (c *sshdCommand) reload(ctx context.Context) {
	log := c.logs.logger()
	for _, f := range c.files { // somebody may have moved them away
		if err := f.reopen(); err != nil {
			log.Error("log file not opened anew", "error", err)
		}
	}
	log.Info("Received SIGHUP; restarting.")
	config, err := c.load()
	if err == nil {
		err = c.server.Reload(ctx, config)
	}
	if err != nil {
		log.Error("the configuration before stays in force", "error", err)
		return
	}
	c.logs.facility(config.Server().SyslogFacility)
	if name := c.server.PidFile(); name != c.pidFile && c.cl.Debug == 0 {
		c.removePID()
		c.writePID(name)
	}
}

// stop ends the listening, so that another server can take its place, and waits
// until the clients have left: as with sshd, whose sessions outlive the listener,
// an administrator can restart the server that he is logged in by. Where that
// is in vain, because a container ends with this process, and at a second
// signal, the sessions are ended in good order.
func (c *sshdCommand) stop(ctx context.Context) error {
	c.notify(serviceStopping)
	c.removePID()
	err := c.server.StopListening()
	if ctx.Err() == nil { // one client has been served
		return errors.Join(err, c.server.Close())
	}
	again, cancel := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer cancel()
	c.logs.logger().Info(fmt.Sprintf("Received signal %d; terminating.", signalOf(ctx)))
	c.front.leaving()
	if c.front.news != nil || !belowInit() {
		c.server.Wait(again)
		if again.Err() == nil {
			return errors.Join(err, c.server.Close())
		}
	}
	return errors.Join(err, endSessions(c.server))
}

// endSessions tells the users, and ends what they run.
func endSessions(s *sshd.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	return errors.Join(s.Shutdown(ctx, "The server is stopping."), s.Close())
}

// signalOf is the number of the signal that ended ctx.
func signalOf(ctx context.Context) unix.Signal {
	for _, s := range []unix.Signal{unix.SIGINT, unix.SIGHUP} {
		if context.Cause(ctx).Error() == s.String()+" signal received" { // see signal.NotifyContext
			return s
		}
	}
	return unix.SIGTERM
}

// belowInit tells whether the parent is this program as process 1: a container's
// processes end when that does.
func belowInit() bool {
	if os.Getppid() != 1 {
		return false
	}
	first, err := os.Stat("/proc/1/exe")
	own, err2 := os.Stat("/proc/self/exe")
	return err == nil && err2 == nil && os.SameFile(first, own)
}

// serveStdio serves the client at stdin and stdout, for inetd or as a proxy
// command. There is no configuration to read again, so that SIGHUP is an end.
func (c *sshdCommand) serveStdio(ctx context.Context) error {
	ctx, cancel := signal.NotifyContext(ctx, unix.SIGHUP)
	defer cancel()
	in, isFile := c.in.(*os.File)
	out, areFiles := c.out.(*os.File)
	if !isFile || !areFiles {
		return errors.New("-i: standard input and output are no files")
	}
	conn, err := sshd.Stdio(in, out)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { endSessions(c.server) })()
	return errors.Join(c.server.ServeConn(conn), c.server.Close())
}

// writePID tells other programs which process to signal. As with sshd it is no
// reason not to serve if it cannot.
func (c *sshdCommand) writePID(name string) {
	if name == "" {
		return
	}
	if err := fsx.WriteFile(name, []byte(strconv.Itoa(c.front.pid())+"\n"), 0o644); err != nil {
		c.logs.logger().Error(fmt.Sprintf("Couldn't create pid file %q", name), "error", err)
		return
	}
	c.pidFile = name
}

func (c *sshdCommand) removePID() {
	if c.pidFile != "" {
		os.Remove(c.pidFile)
		c.pidFile = ""
	}
}
