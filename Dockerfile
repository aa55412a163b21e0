# One static program in an otherwise empty image.
#
#   docker build -t bondgate .
#   docker run --rm --network host bondgate demo        # a first look, without credentials
#
# Inside a container, localhost is the container's own. Callers outside need another address, and on any other address
# bondgate requires access control to start. The simplest is the callers' network:
#
#   docker run -d --name bondgate --network itsm \
#     -e BONDGATE_PRESET=smart-bonding-stage -e BONDGATE_CLIENT_ID=0oaYOURCLIENTID \
#     -e BONDGATE_CLIENT_SECRET_FILE=/run/secrets/client_secret \
#     -v "$PWD/client_secret:/run/secrets/client_secret:ro" \
#     -e BONDGATE_LISTEN=0.0.0.0:8080 -e BONDGATE_ALLOW=172.16.0.0/12 -e BONDGATE_HOSTS=bondgate \
#     -v bondgate-spool:/var/lib/bondgate -e BONDGATE_SPOOL_DIRECTORY=/var/lib/bondgate \
#     --stop-timeout 30 --read-only bondgate
#
# BONDGATE_ALLOW lists the callers' networks, BONDGATE_HOSTS the host names that they use. A configuration file belongs
# in /etc/bondgate/bondgate.toml. Secrets and files must be readable by user id 65532. Pulled messages are kept in the
# volume: a new volume takes its owner from the image; a mounted directory of the host needs `chown 65532`. Without a
# volume, messages are held in memory only, with a warning. A stop takes up to 25 s, hence --stop-timeout. A container
# that shares its caller's network (a pod, or `--network container:NAME`) needs none of this: they share localhost.

FROM rust:1-bookworm AS build
# musl-gcc compiles the C parts of aws-lc (TLS) for the target.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates musl-tools \
 && rm -rf /var/lib/apt/lists/*
RUN rustup target add "$(uname -m)-unknown-linux-musl"
WORKDIR /src
COPY . .
RUN TARGET_CC=musl-gcc cargo build --locked --profile dist --target "$(uname -m)-unknown-linux-musl"
# `simulate` writes its certificate authority to /tmp.
RUN mkdir -m 700 /spool \
 && mkdir -p /image/etc/bondgate /image/etc/ssl/certs /image/tmp \
 && chmod 1777 /image/tmp \
 && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
 && cp target/*-unknown-linux-musl/dist/bondgate /image/bondgate

FROM scratch
COPY --from=build /image/ /
COPY --from=build --chown=65532:65532 /spool /var/lib/bondgate
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["/bondgate", "probe", "live"]
ENTRYPOINT ["/bondgate"]
