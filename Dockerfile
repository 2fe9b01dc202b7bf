# syntax=docker/dockerfile:1

# 1. Dependencies, which change rarely: compiled from the manifests alone, and kept until those change.
FROM rust:1-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
RUN mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && cargo build --release --locked --bin signet \
    && rm -r src

# 2. Signet itself.
COPY migrations migrations
COPY config config
COPY src src
# Cargo compares times, and those of the copied files may be older than the stand-ins above.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked --bin signet
# The folder for SQLite, owned by the user below: the last stage has no shell to make it.
RUN mkdir -p /image/data

# 3. The C library and certificates, no shell, no package manager; uid 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="Signet" \
      org.opencontainers.image.description="Issues tokens: sign up, sign in, refresh, and the users" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /build/target/release/signet /usr/local/bin/signet
COPY --from=build --chown=65532:65532 /image/data /data
ENV SIGNET_PROFILE=production \
    SIGNET__SERVER__BIND=0.0.0.0:8000 \
    SIGNET__DATABASE__URL=sqlite:///data/signet.db
WORKDIR /
USER 65532:65532
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/local/bin/signet", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/signet"]
CMD ["serve"]
