// Package session serves the session channels of an SSH connection (RFC 4254,
// section 6): a shell, a command or a subsystem, with or without a terminal.
//
// The words: a [Login] is one authenticated connection, its account and the
// [Policy] in force for it. Each session channel that the client opens is a
// session. A session collects what the client asks for (variables, a terminal),
// then starts one job: a process, which leads an operating-system session of
// its own (setsid(2)), or work inside this process (sftp, scp, a [Builtin]). The
// [Table] knows every job of the server and ends them at shutdown.
//
// One goroutine reads a channel's requests and never waits for anything: a
// request that is not read stalls the whole connection, because x/crypto/ssh
// hands out all channels' packets from one loop. So requests are decided at
// once, signals and window sizes go straight to the kernel, and a job runs in
// a goroutine of its own.
//
// The end of a job has a fixed order on the wire, for clients that stop
// listening at the first sign of an end: exit-status or exit-signal, the rest
// of the output, EOF, CLOSE. Output is read until the kernel says that nobody
// can write any more, hence no byte is lost; input is never waited for.
//
// When the client leaves first, a terminal is hung up and a job without one
// stays alive with its pipes closed, as with OpenSSH. The Table keeps it.
//
// A command "scp -t" or "scp -f", which is how old clients copy, is the shell's
// like any other, except where a plain shell could not start an scp, because that,
// or the shell itself, is missing or not for this machine. There the server does
// what it says, in package scp, as far as the client's sftp is the server's own
// and may do as much.
//
// The client's agent is somebody else's work (an [Agent]); X11 is not forwarded.
package session
