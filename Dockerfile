# One image with all programs of the product. `cargo xtask image` makes the same without Docker.
#
#   docker build -t quorate.dev/quorate:0.1.0 .

FROM rust:1-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --release -p quorate-sidecar \
 && cargo build --release -p quorate-operator \
 && RUSTFLAGS="-C target-feature=+crt-static" cargo build --release -p quorate-client --bin quorate \
      --target "$(rustc -vV | sed -n 's/^host: //p')" --target-dir target/static \
 && mkdir -p /image/usr/bin /image/usr/lib/quorate/static \
 && find target/release -maxdepth 1 -type f -executable -name 'quorate-*' \
      -exec cp {} /image/usr/bin/ \; \
 && cp target/static/*/release/quorate /image/usr/lib/quorate/static/ \
 && strip --strip-all /image/usr/bin/* /image/usr/lib/quorate/static/* \
 && ln -s /usr/lib/quorate/static/quorate /image/usr/bin/quorate

# A C library and nothing else: no shell, no package manager.
FROM gcr.io/distroless/cc-debian12
COPY --from=build /image/ /
USER 65532:65532
ENTRYPOINT ["/usr/bin/quorate-sidecar"]
