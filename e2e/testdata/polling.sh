#!/bin/sh
# A build environment of shell and sleep, as they are today: the yardstick of
# the latency benchmarks. It says what it waits for in the words of buildenv.
set -eu

echo 'waiting for the marker ready'
until [ -e "$IMAGE_ROOT_PARENT/ready" ]; do
	sleep 5
done

ssh-keygen -A
# shellcheck disable=SC2086 # the options are words on purpose
/usr/sbin/sshd -D $SSHD_OPTIONS &

echo "waiting for the user's verdict"
until [ -e "$IMAGE_ROOT_PARENT/complete" ] || [ -e "$IMAGE_ROOT_PARENT/failed" ]; do
	sleep 5
done

rm -f "$IMAGE_ROOT_PARENT/complete"
touch "$IMAGE_ROOT_PARENT/exiting"
kill $!
