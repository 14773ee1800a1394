# The image is the binary and nothing else. It is built on the host, where it
# is the same file, so that no base image has to be pulled:
#
#     make image
#
# or, by hand: make static && podman build --target static -t buildenv .
FROM scratch AS static
ARG TARGETARCH
ARG VERSION=devel
LABEL org.opencontainers.image.title="buildenv" \
      org.opencontainers.image.description="SSH build environment for operating-system image roots" \
      org.opencontainers.image.version="${VERSION}"
COPY bin/buildenv-${TARGETARCH} /usr/local/bin/buildenv
# What a shell of the image root looks for its programs in; the image has none.
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
EXPOSE 22
ENTRYPOINT ["/usr/local/bin/buildenv"]
