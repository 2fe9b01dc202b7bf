# 1. Dependencies: compiled from the manifests alone, and cached until the manifests change.
FROM rust:1-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
# Cargo refuses a manifest whose benchmarks are missing, and they are not copied here.
RUN sed -i '/^\[\[bench]]/,/^$/d' Cargo.toml \
    && mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && cargo build --release --locked --bin signet \
    && rm -r src

# 2. Signet itself.
COPY migrations migrations
COPY config config
COPY src src
# Cargo compares modification times: the copied files may be older than the empty ones above.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked --bin signet
# The last stage has no shell, so its files are prepared here. Beyond the C library Rust needs only libgcc_s (it unwinds
# panics); the image that has it, distroless/cc, is 9 MB larger because of a TLS and a C++ library.
RUN install -D target/release/signet /image/usr/local/bin/signet \
    && install -D -m 644 "$(gcc -print-file-name=libgcc_s.so.1)" /image/usr/lib/libgcc_s.so.1 \
    && mkdir /data

# 3. The C library and certificates, no shell, no package manager; user 65532.
FROM gcr.io/distroless/base-nossl-debian12:nonroot
LABEL org.opencontainers.image.title="Signet" \
      org.opencontainers.image.description="Issues tokens: sign-up, sign-in, refresh and user accounts" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.base.name="gcr.io/distroless/base-nossl-debian12:nonroot"
COPY --from=build /image /
# For SQLite, unless database.url is set.
COPY --from=build --chown=65532:65532 /data /data
ENV SIGNET_PROFILE=production \
    SIGNET__SERVER__BIND=0.0.0.0:8000 \
    SIGNET__DATABASE__URL=sqlite:///data/signet.db
WORKDIR /
USER 65532:65532
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/local/bin/signet", "healthcheck", "--live"]
ENTRYPOINT ["/usr/local/bin/signet"]
CMD ["serve"]
