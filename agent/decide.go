package agent

import "path/filepath"

// Action is what the image service asks for.
type Action string

// The actions that have work to do; any other has none.
const (
	Create    Action = "create"
	Customize Action = "customize"
)

// Plan is what a job amounts to.
type Plan struct {
	Shell   bool   // people log in
	Package bool   // the root is packaged, unless the user marks it failed; else the job ends in error
	Root    string // the image root, below the image root's parent
	Why     string // one line for the log
}

// Decide tells what an action amounts to, given whether a builder left
// build_failed and whether a failed build is to be looked at.
func Decide(action Action, buildFailed, debug bool) Plan {
	switch {
	case action == Customize:
		return Plan{Shell: true, Package: true, Root: "image-root",
			Why: "customize: the user changes the image root"}
	case action == Create && !buildFailed:
		return Plan{Package: true, Root: filepath.Join("build", "image-root"),
			Why: "create: the build succeeded, no shell is needed"}
	case action == Create && debug:
		return Plan{Shell: true, Root: filepath.Join("build", "image-root"),
			Why: "create: the build failed, a debug shell is open; nothing will be published"}
	case action == Create:
		return Plan{Root: filepath.Join("build", "image-root"),
			Why: "create: the build failed and no debug shell was asked for"}
	default:
		return Plan{Root: "image-root",
			Why: "unknown action: no shell; use create or customize"}
	}
}
