// Package sshd is the SSH server of the build environment: it assembles the
// packages below it into a server that behaves like OpenSSH's sshd for those
// who log in, from the same configuration files.
//
// The words: a [Server] listens and accepts. Each accepted connection runs
// the SSH handshake and proves a public key; what the key may do, by
// sshd_config and by its line in authorized_keys, becomes a session.Login,
// which serves the connection's sessions.
//
// The handshake and the plumbing of channels are gliderlabs/ssh's, with one of
// its servers per connection. Its own authentication, sessions and deadlines
// are not used, for reasons given where they are replaced (auth.go,
// connection.go, sshd/session). Only public keys authenticate: there is no
// PAM here and no password database worth asking. Only root may log in: an
// image root is root's work.
//
// A server ends in two acts. Shutdown ends the sessions, so that nobody works
// on the image any more; connections stay, so that clients learn the exit
// status of what they ran. Close lets them go.
//
// A server that is not a job's ends as sshd's listener does: StopListening leaves
// the sessions alone, and Wait returns when the last client has left.
//
//	server, err := sshd.New(sshd.Config{Settings: settings, Log: log})
//	…
//	err = server.Start(ctx)
//	…
//	err = server.Shutdown(ctx, "The image is complete.")
//	server.Close()
//
// Each connection has a forward.Forwarder for what it may forward. Its channels
// count and time out like all others; its listeners end after the sessions.
//
// X11, tunnel devices, passwords and login records are not offered.
package sshd
