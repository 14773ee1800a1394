// Package agent is the job: one state machine on marker files.
//
// A job has two halves. [Environment] is the build environment's: it waits for
// ready, lets the users in, waits for their verdict, sees them out and leaves
// exiting. [Standalone] is the other half, which a sidecar does in a pod, around
// the first: it prepares the image root, says ready, and has a [Publisher] make
// an image of the root.
//
//	Decide ──► waiting ──► serving ──► leaving ──► packaging ──► publishing
//	           (ready)     (complete or failed)
//
// What a job is made of stands behind interfaces: the SSH server, the places of
// the markers, the store, the registry, the packer. What is done to the image
// root before anybody comes in is a list of steps, each of which knows how to
// take itself back.
//
// A killed agent that is started again continues the job: the markers say how
// far it was, and a [State] beside them what they cannot say.
package agent
