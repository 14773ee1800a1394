// Buildenv is the SSH build environment for operating-system image roots: an
// image root comes in, an administrator changes it over SSH, and what comes out
// is packaged and published. "buildenv help" lists its commands.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"buildenv/entrypoint"
)

func main() { os.Exit(run()) }

func run() int {
	entrypoint.NameProcess(os.Args[0])
	if os.Getpid() == 1 {
		return entrypoint.Init(os.Args, os.Stderr)
	}
	stops := []os.Signal{syscall.SIGTERM, syscall.SIGINT}
	if signal.Ignored(syscall.SIGHUP) { // nohup(1) is for us, not for what users run
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	} else if !entrypoint.IsSSHD(os.Args) { // to which it says: read the configuration again
		stops = append(stops, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), stops...)
	defer stop()
	return entrypoint.Main(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr)
}
