package entrypoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"buildenv/agent"
	"buildenv/artifacts"
)

func newRunCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "run [IMAGE_ROOT_PARENT]",
		Short: "Be the build environment of a job: what a container's ENTRYPOINT calls",
		Long: `Waits for the marker ready in IMAGE_ROOT_PARENT, serves SSH, runs the
customization script, waits until a user leaves complete or failed, and leaves
exiting. In the role standalone it also prepares the image root and packages it
into ARTIFACT_STORE.`,
		Example: `  IMS_ACTION=customize buildenv run /mnt/image
  IMS_ACTION=customize ARTIFACT_STORE=file:///srv/images IMAGE_ROOT_ARCHIVE_NAME=compute buildenv /mnt/image`,
		Args: func(c *cobra.Command, given []string) error {
			if len(given) > 0 && !c.HasParent() && mistyped(given[0]) {
				return usagef("unknown command %q; see \"buildenv --help\"", given[0])
			}
			return args(0, 1)(c, given)
		},
		RunE: func(c *cobra.Command, given []string) error {
			cfg, problems := loadConfig()
			if len(given) == 1 {
				cfg.ImageRootParent = given[0]
			}
			return run(c.Context(), s, cfg, problems)
		},
	}
}

// mistyped tells whether the first word after the program's name is meant as a
// command: it is neither a path nor a folder that is there.
func mistyped(word string) bool {
	if strings.ContainsRune(word, filepath.Separator) {
		return false
	}
	info, err := os.Stat(word)
	return err != nil || !info.IsDir()
}

// run does a job as the environment describes it. problems are what is wrong
// with the description.
func run(ctx context.Context, s streams, cfg Config, problems error) (err error) {
	log := newLogger(s.err, cfg)
	if problems == nil && cfg.Role == roleEnvironment {
		if plan := planOf(cfg); !plan.Shell { // then nothing is touched
			log.Info("no shell", "action", string(cfg.Action), "reason", plan.Why)
			return nil
		}
	}
	release, err := claim(&cfg)
	if err != nil {
		return err // another agent's job: its markers are not ours to touch
	}
	defer release()
	log.Info("configuration", "version", version, "config", cfg)
	for _, warning := range cfg.warnings() {
		log.Warn(warning)
	}
	j, err := newJob(cfg, log, s.err)
	if err := errors.Join(problems, unsupported(cfg), err); err != nil {
		return refuse(ctx, cfg, log, err)
	}
	detach, err := j.attach()
	if err != nil {
		return refuse(ctx, cfg, log, err)
	}
	defer detaching(detach, &err)
	log.Info("plan", "action", string(cfg.Action), "role", cfg.Role, "plan", j.plan.Why)
	defer j.server.Close()
	if cfg.Role == roleStandalone {
		return j.runStandalone(ctx, s)
	}
	_, err = j.environment().Run(ctx)
	return err
}

// unsupported names what a job asks for and this version cannot do.
func unsupported(cfg Config) error {
	if cfg.RemoteBuildNode != "" {
		return fmt.Errorf("REMOTE_BUILD_NODE: %q: this version has no remote build nodes; unset it to work on this machine", cfg.RemoteBuildNode)
	}
	return nil
}

// claim makes the path of the image root's parent absolute, makes the folder if
// it is missing, and locks it.
func claim(cfg *Config) (release func(), err error) {
	if cfg.ImageRootParent, err = filepath.Abs(cfg.ImageRootParent); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.ImageRootParent, 0o755); err != nil {
		return nil, fmt.Errorf("make image root parent: %w", err)
	}
	return agent.Lock(cfg.ImageRootParent)
}

// refuse ends a job whose configuration cannot be honoured, so that no sidecar
// waits for it for ever. The reason is logged before a late sidecar is waited
// for, and returned as the command's one-line reason.
func refuse(ctx context.Context, cfg Config, log *slog.Logger, reason error) error {
	log.Error("the job cannot begin", "error", reason)
	plan := agent.Decide(cfg.Action, false, false)
	root := filepath.Join(cfg.ImageRootParent, plan.Root)
	marks := marksOf(cfg.ImageRootParent, description{Root: root, Jailed: cfg.jailed()})
	if cfg.Role == roleStandalone { // nobody else takes part
		done, cancel := context.WithCancel(ctx)
		cancel()
		ctx = done
	}
	agent.Refuse(ctx, marks, log)
	return reason
}

func (j *job) runStandalone(ctx context.Context, s streams) error {
	standalone, err := j.standalone(artifacts.PackOptions{})
	if err != nil {
		return refuse(ctx, j.cfg, j.log, err)
	}
	result, err := standalone.Run(ctx)
	if err != nil {
		return err
	}
	if result == nil {
		j.log.Info("the image root was marked failed: nothing is published")
		return nil
	}
	return printResult(s.out, j.cfg, *result)
}
