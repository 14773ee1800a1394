package sftp

import (
	"errors"
	"fmt"

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
	event  string // the name of its audit record, "" for none
	serve  handler
}

// requests are those of the draft, by packet type. Reads are scheduled by
// [session.answer].
var requests = map[byte]request{
	fxpOpen:     {"open", false, "open", (*session).open},
	fxpClose:    {"close", false, "", (*session).close},
	fxpRead:     {"read", false, "", nil},
	fxpWrite:    {"write", true, "", (*session).write},
	fxpLstat:    {"lstat", false, "", statPath("lstat", unix.Lstat)},
	fxpFstat:    {"fstat", false, "", onFile(fstat)},
	fxpSetstat:  {"setstat", true, "setstat", (*session).setstat},
	fxpFsetstat: {"fsetstat", true, "setstat", (*session).fsetstat},
	fxpOpendir:  {"opendir", false, "", (*session).opendir},
	fxpReaddir:  {"readdir", false, "", (*session).readdir},
	fxpRemove:   {"remove", true, "remove", onPath("remove", unix.Unlink)},
	fxpMkdir:    {"mkdir", true, "mkdir", (*session).mkdir},
	fxpRmdir:    {"rmdir", true, "rmdir", onPath("rmdir", unix.Rmdir)},
	fxpRealpath: {"realpath", false, "", (*session).realpath},
	fxpStat:     {"stat", false, "", statPath("stat", unix.Stat)},
	fxpRename:   {"rename", true, "rename", onPaths("rename", rename)},
	fxpReadlink: {"readlink", false, "", (*session).readlink},
	fxpSymlink:  {"symlink", true, "symlink", (*session).symlink},
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
func (s *session) findRequest(kind byte, in *decoder) request {
	if kind != fxpExtended {
		return requests[kind]
	}
	wire := in.string()
	for _, e := range extensions {
		if e.wire == wire {
			return e.request
		}
	}
	if !in.short {
		s.say(LogErrors, "Unknown extended request %s", quoted(wire))
	}
	return request{}
}

// answer carries out one request. Its error ends the session.
func (s *session) answer(p *packet) error {
	s.in, s.noted = decoder{rest: p.b}, nil
	in := &s.in
	kind, id := in.u8(), in.u32()
	if kind == fxpInit {
		return s.initialise(in, id)
	}
	req := s.findRequest(kind, in)
	if err := in.err(); err != nil {
		return err
	}
	if !s.initialised {
		return fmt.Errorf("%w: request of type %d before the client named its version", errMalformed, kind)
	}
	if s.logs(LogDebug) { // asked first, for the words cost something for each packet
		s.say(LogDebug, "request %d: %s", id, req.name)
	}
	out := newPacket()
	out.begin(fxpStatus, id)
	err := s.permitted(kind, req)
	switch {
	case err != nil:
	case kind == fxpRead:
		var r fileRead
		if r, err = s.decodeRead(id, in, out); err == nil {
			return s.schedule(r)
		}
	default:
		s.reading.Wait()
		err = req.serve(s, in, out)
	}
	if errors.Is(err, errMalformed) {
		out.free()
		return fmt.Errorf("%s: %w", req.name, err)
	}
	s.record(req.event, err)
	if err != nil || len(out.b) == headerSize {
		s.sayStatus(err)
		out.status(id, err)
	}
	return s.send(out)
}

// permitted answers for requests that are not even looked at.
func (s *session) permitted(kind byte, req request) error {
	if req.name == "" {
		if kind != fxpExtended {
			s.say(LogErrors, "Unknown message %d", kind)
		}
		return unix.ENOSYS
	}
	if s.allows(req) {
		return nil
	}
	s.note("request", req.name)
	s.record("refused", nil)
	s.noted = nil
	return unix.EACCES
}

// allows asks the options, and says if they do not let a request be made.
func (s *session) allows(req request) bool {
	refusal := s.opts.refusal(req)
	if refusal != "" {
		s.say(LogVerbose, "%s", refusal)
	}
	return refusal == ""
}

// initialise answers a client that has said which version it speaks, which is
// where other requests have their id.
func (s *session) initialise(in *decoder, version uint32) error {
	if err := in.err(); err != nil {
		return err
	}
	s.say(LogVerbose, "received client version %d", version)
	s.initialised = true
	out := newPacket()
	out.begin(fxpVersion, protocolVersion)
	for _, e := range extensions {
		if s.allows(e.request) {
			out.string(e.wire)
			out.string(e.version)
		}
	}
	return s.send(out)
}
