package entrypoint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"buildenv/internal/execx"
)

// scriptPath is where a customization script finds programs.
const scriptPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// script is the customization script, nil when there is none to run.
func (j *job) script() func(context.Context) error {
	path := j.cfg.Script
	if path == "" {
		return nil
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		j.log.Info("customization script skipped: missing, empty or no file", "script", path)
		return nil
	}
	return func(ctx context.Context) error {
		j.log.Info("customization script begins", "script", path)
		if err := j.runScript(ctx, path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		j.log.Info("customization script ended well", "script", path)
		return nil
	}
}

// runScript runs a script as its first line says, or with a shell when it is not
// executable or has no such line, as it was when the shell read it in.
func (j *job) runScript(ctx context.Context, path string) error {
	line := func(text string) { j.log.Info(text, "from", "customization script") }
	started := func(pid int) { j.scriptGroup = pid }
	err := execx.Watch(ctx, j.scriptCommand(path), line, started)
	if errors.Is(err, unix.ENOEXEC) || errors.Is(err, unix.EACCES) {
		err = execx.Watch(ctx, j.scriptCommand(shell(), path), line, started)
	}
	return err
}

func (j *job) scriptCommand(argv ...string) *exec.Cmd {
	return &exec.Cmd{
		Path: argv[0],
		Args: argv,
		Dir:  "/",
		Env: append([]string{"HOME=/root", "USER=root", "LOGNAME=root", "SHELL=" + shell(), "PATH=" + scriptPath,
			"IMAGE_ROOT_PARENT=" + j.cfg.ImageRootParent}, j.cfg.sessionEnv()...),
	}
}

// shell is bash, for which customization scripts are written, or else sh.
func shell() string {
	if _, err := os.Stat("/bin/bash"); err == nil {
		return "/bin/bash"
	}
	return "/bin/sh"
}
