# The image contains one static binary and the CA certificates.
#
#   docker build -t cbproxy --build-arg VERSION=1.0.0 --build-arg COMMIT="$(git rev-parse --short HEAD)" .
#   docker run -p 8080:8080 -p 127.0.0.1:9901:9901 -v "$PWD/config:/etc/cbproxy:ro" cbproxy
#
# Mount the configuration's folder, not the file: an edit that replaces the file by renaming is not visible in a mounted
# file. In a container `listen` and `admin.listen` must be 0.0.0.0:… to be reachable through published ports. With
# --read-only mount a volume for the state, too (-v cbproxy-data:/var/lib/cbproxy), or set data_dir: "".
#
# It needs BuildKit or buildah. docs/operations.md describes builds for several architectures, reproducible builds, and
# builds behind a proxy. HTTP_PROXY, HTTPS_PROXY and NO_PROXY are build arguments of every builder and must not be
# declared here: what is declared is recorded in the image.

# Also a version with a digest, 1.26.0@sha256:…
ARG GO_VERSION=1.26

# The compiler runs on the build platform and cross-compiles.
FROM --platform=$BUILDPLATFORM golang:${GO_VERSION} AS build
WORKDIR /src

# Settings of the go command; an empty one has its own default. None of them is in the final image.
ARG GOPROXY=
ARG GOSUMDB=
ARG GOFLAGS=

# Modules change less often than code, so they are a separate layer. The secret `ca` is a file with CA certificates that
# are trusted in addition to the system's, for a proxy that intercepts TLS.
COPY go.mod go.sum ./
RUN --mount=type=secret,id=ca,target=/run/ca/ca.pem SSL_CERT_DIR=/run/ca go mod download

COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
ARG COMMIT=unknown
# Without cgo the binary needs no libraries. The tag grpcnotrace leaves out gRPC's debug pages, which are not used.
RUN CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} \
    go build -tags grpcnotrace -trimpath -buildvcs=false \
    -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT}" \
    -o /out/root/cbproxy ./cmd/cbproxy
# The final image has no mkdir, so its folders are created here and copied. The parents of the data folder belong to
# root: some builders give folders that COPY creates to the user of --chown.
RUN mkdir -p /out/root/etc/ssl/certs /out/root/var/lib /out/data && \
    cp /etc/ssl/certs/ca-certificates.crt /out/root/etc/ssl/certs/

FROM scratch
ARG VERSION=dev
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="cbproxy" \
      org.opencontainers.image.description="Circuit-breaking sidecar proxy" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}"

COPY --from=build /out/root /
# A relative data_dir is below this folder, which is writable by the user below.
COPY --from=build --chown=65532:65532 /out/data /var/lib/cbproxy

WORKDIR /var/lib/cbproxy
USER 65532:65532
EXPOSE 8080 9901
# Not --start-interval, which older builders and engines refuse: every engine checks after each interval, first 5 s after
# the start. Docker 25 and newer check sooner with `docker run --health-start-interval 500ms`.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["/cbproxy", "healthcheck"]
ENTRYPOINT ["/cbproxy"]
CMD ["run", "--config", "/etc/cbproxy/config.yaml"]
