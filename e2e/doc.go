// Package e2e tests the binary from outside, as its users meet it: with the
// real ssh, scp, sftp and rsync, on real image roots, as PID 1 of a container.
//
// Each file testdata/FEATURE.txtar is one script (see the package testscript
// of github.com/rogpeppe/go-internal for the language) in a folder of its own,
// and scripts run side by side. A script that needs root or a program begins
// by saying so:
//
//	[!root] skip 'chroot needs root'
//	[!exec:ssh] skip 'needs openssh-client'
//
// # What a script finds
//
//	buildenv          on PATH: what BUILDENV_BINARY names, else built once from the source
//	$WORK             its folder; go test -artifacts ./e2e keeps it
//	$SSH_KEY          a private key of its own, with the public half in $SSH_KEY.pub
//	$SSH_PORT         a free port for its server
//	$SSH_CONFIG       an ssh_config in which the host "job" is root at that port, with that key:
//	                  exec ssh -F $SSH_CONFIG job id
//	                  exec scp -F $SSH_CONFIG file job:/tmp/
//	$DEBIAN_ROOT      the Debian image root of tools/debian-root, to be copied, never changed;
//	                  the condition [debian-root] tells whether it has been made
//
// # Commands of our own
//
//	daemon PIDFILE VARIABLE      puts the process that PIDFILE names into VARIABLE; it ends with the script
//	exits CODE PROGRAM [ARG...]  runs PROGRAM like exec, and wants that very exit code
//	minirootfs DIR               makes a small image root: busybox, accounts, kernel and initrd
//	sidecar                      leaves what a job's sidecar leaves before it says ready: the folder
//	                             ims with sshd_config and authorized_keys, and the pod's variables;
//	                             $IMAGE_ROOT_PARENT is the folder image
//	waitend PID                  waits until that process has ended
//	waitfile FILE [REGEXP]       waits until FILE is there (and its content matches)
//	waitport ADDRESS             waits until ADDRESS accepts a TCP connection
//	freeport VARIABLE            puts another free port into VARIABLE
//	noemulator                   takes the kernel's handlers of aarch64 programs away until the
//	                             script ends; the condition [binfmt] tells whether it can
//	[!] mode FILE PERMISSIONS    compares permissions, as in "mode key 0600" or "mode tmp 1777"
//	signal NAME TEXT             sends the signal NAME (TERM, HUP, …) to the background command
//	                             whose command line contains TEXT; "kill" only knows INT and KILL
//
// Waiting ends after half a minute with a failure. What a script leaves
// mounted in its folder is taken away, and fails the test.
//
// Tests with the build tag pods (make e2e) run our image in podman.
package e2e
