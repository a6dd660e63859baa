# The image contains one static binary and the CA certificates.
#
#   docker build -t cbproxy --build-arg VERSION=1.0.0 --build-arg COMMIT="$(git rev-parse --short HEAD)" .
#   docker run -p 8080:8080 -p 127.0.0.1:9901:9901 -v "$PWD/config:/etc/cbproxy:ro" cbproxy
#
# Mount the configuration's folder, not the file: an edit that replaces the file by renaming is not visible in a mounted
# file. In a container `listen` and `admin.listen` must be 0.0.0.0:… to be reachable through published ports.

ARG GO_VERSION=1.26

# The compiler runs on the build platform and cross-compiles.
FROM --platform=$BUILDPLATFORM golang:${GO_VERSION} AS build
WORKDIR /src

# Modules change less often than code, so they are a separate layer.
COPY go.mod go.sum ./
RUN go mod download

COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
ARG COMMIT=unknown
# Without cgo the binary needs no libraries. The tag grpcnotrace leaves out gRPC's debug pages, which are not used.
RUN CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} \
    go build -tags grpcnotrace -trimpath -buildvcs=false \
    -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT}" \
    -o /out/cbproxy ./cmd/cbproxy
# The final image has no mkdir, so the folder of the embedded store is created here and copied.
RUN mkdir /out/data

FROM scratch
ARG VERSION=dev
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="cbproxy" \
      org.opencontainers.image.description="Circuit-breaking sidecar proxy" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}"

COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# A relative data_dir is below this folder, which is writable by the user below.
COPY --from=build --chown=65532:65532 /out/data /var/lib/cbproxy
COPY --from=build /out/cbproxy /cbproxy

WORKDIR /var/lib/cbproxy
USER 65532:65532
EXPOSE 8080 9901
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["/cbproxy", "healthcheck"]
ENTRYPOINT ["/cbproxy"]
CMD ["run", "--config", "/etc/cbproxy/config.yaml"]
