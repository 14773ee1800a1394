package sftp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"
)

var errNoUser = errors.New("no such user")

// A handler carries out one request: it decodes all fields, asks in.err, acts,
// and either changes out, a status reply, to the reply that is due, or returns
// how the request ended. errMalformed ends the session.
type handler func(s *session, in *decoder, out *packet) error

// A request is one that a client may make.
type request struct {
	name   string // as options -p and -P know it
	writes bool   // could change a file, and is refused by -R; open looks itself
	serve  handler
}

// requests are those of the draft, by packet type. Reads are scheduled by
// [session.answer].
var requests = map[byte]request{
	fxpOpen:     {"open", false, (*session).open},
	fxpClose:    {"close", false, (*session).close},
	fxpRead:     {"read", false, nil},
	fxpWrite:    {"write", true, (*session).write},
	fxpLstat:    {"lstat", false, statPath(unix.Lstat)},
	fxpFstat:    {"fstat", false, onFile(fstat)},
	fxpSetstat:  {"setstat", true, (*session).setstat},
	fxpFsetstat: {"fsetstat", true, (*session).fsetstat},
	fxpOpendir:  {"opendir", false, (*session).opendir},
	fxpReaddir:  {"readdir", false, (*session).readdir},
	fxpRemove:   {"remove", true, onPath(unix.Unlink)},
	fxpMkdir:    {"mkdir", true, (*session).mkdir},
	fxpRmdir:    {"rmdir", true, onPath(unix.Rmdir)},
	fxpRealpath: {"realpath", false, (*session).realpath},
	fxpStat:     {"stat", false, statPath(unix.Stat)},
	fxpRename:   {"rename", true, onPaths(rename)},
	fxpReadlink: {"readlink", false, (*session).readlink},
	fxpSymlink:  {"symlink", true, (*session).symlink},
}

// RequestNames are the names that options -p and -P take, in the order of
// "sftp-server -Q requests".
func RequestNames() []string {
	var names []string
	for kind := byte(fxpOpen); kind <= fxpSymlink; kind++ {
		names = append(names, requests[kind].name)
	}
	for _, e := range extensions {
		names = append(names, e.name)
	}
	return names
}

// findRequest looks a packet type up; an extended request has its name in the
// packet. The zero request is one that the server does not know.
func findRequest(kind byte, in *decoder) request {
	if kind != fxpExtended {
		return requests[kind]
	}
	wire := in.string()
	for _, e := range extensions {
		if e.wire == wire {
			return e.request
		}
	}
	return request{}
}

// answer carries out one request. Its error ends the session.
func (s *session) answer(p *packet) error {
	in := decoder{rest: p.b}
	kind, id := in.u8(), in.u32()
	if kind == fxpInit {
		return s.initialise(&in)
	}
	req := findRequest(kind, &in)
	if err := in.err(); err != nil {
		return err
	}
	if !s.initialised {
		return fmt.Errorf("%w: request of type %d before the client named its version", errMalformed, kind)
	}
	out := newPacket()
	out.begin(fxpStatus, id)
	var err error
	switch {
	case req.name == "":
		err = unix.ENOSYS
	case !s.opts.permits(req):
		err = unix.EACCES
	case kind == fxpRead:
		var r fileRead
		if r, err = s.decodeRead(id, &in, out); err == nil {
			return s.schedule(r)
		}
	default:
		s.reading.Wait()
		err = req.serve(s, &in, out)
	}
	if errors.Is(err, errMalformed) {
		out.free()
		return fmt.Errorf("%s: %w", req.name, err)
	}
	s.reading.Wait() // a refusal must not pass them either
	s.record(req, &in, err)
	if err != nil || len(out.b) == headerSize {
		out.status(id, err)
	}
	return s.send(out)
}

// initialise answers a client that has said which version it speaks, which is
// where other requests have their id.
func (s *session) initialise(in *decoder) error {
	if err := in.err(); err != nil {
		return err
	}
	s.initialised = true
	out := newPacket()
	out.begin(fxpVersion, protocolVersion)
	for _, e := range extensions {
		if s.opts.permits(e.request) {
			out.string(e.wire)
			out.string(e.version)
		}
	}
	return s.send(out)
}

// record logs a request that names files.
func (s *session) record(req request, in *decoder, err error) {
	if len(in.paths) == 0 {
		return
	}
	level := slog.LevelDebug
	if req.writes || req.name == "open" {
		level = slog.LevelInfo
	}
	s.log.Log(context.Background(), level, "sftp "+req.name, "paths", in.paths, "status", statusMessages[statusOf(err)])
}
