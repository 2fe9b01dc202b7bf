# The images to start from. `scripts/pin-images` adds their digests; distroless has no tags with versions.
ARG RUST=docker.io/library/rust:1.95.0-bookworm
ARG BASE=gcr.io/distroless/static-debian12:nonroot

# 1. Dependencies: compiled from the manifests alone, and cached until the manifests change. The compiler runs on the
# machine that builds, and compiles for the platform of the image.
FROM --platform=$BUILDPLATFORM ${RUST} AS build
ARG TARGETARCH
WORKDIR /build
COPY scripts/build-static scripts/
RUN scripts/build-static tools "$TARGETARCH"
COPY Cargo.toml Cargo.lock ./
# Cargo refuses a manifest whose benchmarks are missing, and they are not copied here.
RUN sed -i '/^\[\[bench]]/,/^$/d' Cargo.toml \
    && mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && scripts/build-static "$TARGETARCH" \
    && rm -r src

# 2. Signet itself.
COPY migrations migrations
COPY config config
COPY src src
# Cargo compares modification times: the copied files may be older than the empty ones above.
RUN touch src/main.rs src/lib.rs \
    && install -D "$(scripts/build-static "$TARGETARCH")" /image/usr/local/bin/signet \
    && mkdir /data

# 3. Certificates and a few files of settings, no C library, no shell, no package manager; user 65532. The platform is
# that of the image anyway, but buildah 1.28 would take that of the first stage.
FROM --platform=$TARGETPLATFORM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="Signet" \
      org.opencontainers.image.description="Issues tokens: sign-up, sign-in, refresh and user accounts" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.created="$CREATED"
COPY --from=build /image /
# For SQLite, unless database.url is set: mount a volume here. The image declares none, so that containers with
# PostgreSQL leave none behind.
COPY --from=build --chown=65532:65532 /data /data
ENV SIGNET_PROFILE=production \
    SIGNET__SERVER__BIND=0.0.0.0:8000 \
    SIGNET__DATABASE__URL=sqlite:///data/signet.db
WORKDIR /
USER 65532:65532
EXPOSE 8000
STOPSIGNAL SIGTERM
# Whether the process answers, not whether it is ready: an orchestrator that replaces unhealthy containers must not
# replace every replica while the database is away.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/local/bin/signet", "healthcheck", "--live"]
ENTRYPOINT ["/usr/local/bin/signet"]
CMD ["serve"]
