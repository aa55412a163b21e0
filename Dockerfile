# One static program in an otherwise empty image, for amd64 and arm64. config/guides/container.md explains its use.
#
#   docker build -t bondgate .
#   docker run --rm --network host bondgate demo
#
# BuildKit and podman cross-compile for the platform that --platform names, without emulation.

FROM --platform=$BUILDPLATFORM docker.io/library/rust:1.95.0-bookworm AS build
# Debian keeps one version of a package, so naming it here would make the build fail at the next one.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3-venv \
 && rm -rf /var/lib/apt/lists/*
COPY .ci/zig /tmp/zig
RUN python3 -m venv /opt/zig && /opt/zig/bin/pip install --no-cache-dir -r /tmp/zig
ENV PATH=/opt/zig/bin:$PATH
WORKDIR /src

# Empty sources take the place of bondgate's in the layers that a change of those shall keep: the licences of the
# dependencies, and the compiled dependencies.
COPY .cargo .cargo
COPY .ci/build .ci/commit .ci/licences .ci/rustc .ci/
COPY config/package config/package
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
RUN mkdir -p src target/pgo tests/e2e tests/bench \
 && echo 'fn main() {}' >src/main.rs \
 && touch src/lib.rs tests/e2e/main.rs tests/bench/parts.rs tests/bench/pulls.rs tests/bench/relay.rs \
 && .ci/licences /THIRD-PARTY.txt
# The profile of a run under load, if .ci/release has made one: the program is then the one of a release. COPY needs one
# file that exists.
COPY LICENSE target/pgo/profil[e] target/pgo/
ARG TARGETARCH
RUN BONDGATE_COMMIT=none BONDGATE_COMMIT_TIME=0 .ci/build "$TARGETARCH"

COPY config config
COPY src src
ARG BONDGATE_COMMIT=unknown
ARG BONDGATE_COMMIT_TIME=0
# cargo would take a program that is younger than its sources for theirs.
RUN find src -exec touch {} + \
 && .ci/build "$TARGETARCH"
COPY LICENSE README.md TROUBLESHOOTING.md /image/usr/share/doc/bondgate/
# /tmp is for `simulate`, which writes its certificate authority there.
RUN mkdir -p /image/etc/bondgate /image/etc/ssl/certs /image/tmp /image/var/lib \
 && chmod 1777 /image/tmp \
 && mkdir -p /spool \
 && mkdir -m 700 /spool/bondgate \
 && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
 && cp /THIRD-PARTY.txt /image/usr/share/doc/bondgate/ \
 && cp "target/static/$TARGETARCH/bondgate" /image/bondgate

FROM scratch
ARG BONDGATE_COMMIT=unknown
LABEL org.opencontainers.image.title="bondgate" \
      org.opencontainers.image.description="A local authenticating reverse proxy for Cisco's Smart Bonding API" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="$BONDGATE_COMMIT"
COPY --from=build /image/ /
# A volume that is mounted here takes its owner from this directory.
COPY --from=build --chown=65532:65532 /spool/ /var/lib/
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["/bondgate", "probe", "live"]
ENTRYPOINT ["/bondgate"]
