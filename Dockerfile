# One image for each service, and one for the `conclave` command:
#
#   docker build --target gateway -t conclave/gateway .      # or router, expert-worker, scheduler, registry, conclave
#
# All of them share the stage `build`. What a service's image holds beside the base is its program and
# the libraries that this program is linked with, and nothing else: the list is taken from the program.
# The program watches itself (`conclave-router health`), so that no image needs a shell or curl to run.
ARG DEBIAN=debian:bookworm-slim
# What `build` starts from: an earlier `build` image brings its packages and its ccache along.
ARG BUILD_FROM=${DEBIAN}

FROM ${BUILD_FROM} AS build
WORKDIR /src
COPY packages/build.txt packages/build.txt
RUN apt-get update -q \
 && sed 's/#.*//' packages/build.txt | DEBIAN_FRONTEND=noninteractive xargs apt-get install -qy --no-install-recommends \
 && rm -rf /var/lib/apt/lists/*
COPY . .
ENV CCACHE_DIR=/var/cache/ccache
RUN cmake --preset release -DCONCLAVE_TESTS=OFF \
 && cmake --build --preset release -j "$(nproc)" \
 && tools/image-root build/release/bin /out

FROM ${DEBIAN} AS base
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.vendor="Conclave" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Where writable volumes are mounted; the rest of the file system may be read-only.
# A new named volume takes over the owner of the folder that it is mounted on.
RUN mkdir -p /var/lib/conclave/artifacts /run/conclave/keys /run/conclave/secrets /run/conclave/redis \
 && chown -R 10001:10001 /var/lib/conclave /run/conclave
ENV CONCLAVE_ADMIN_HOST=0.0.0.0 CONCLAVE_FABRIC_KEYS=/run/conclave/keys
STOPSIGNAL SIGTERM

FROM base AS gateway
LABEL org.opencontainers.image.title="conclave-gateway"
COPY --from=build /out/conclave-gateway /
RUN /usr/libexec/conclave/finish-image conclave-gateway "${VERSION:-0.1.0}"
USER 10001:10001
ENV CONCLAVE_GATEWAY_HOST=0.0.0.0
EXPOSE 8000 9464
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s CMD ["conclave-gateway", "health"]
ENTRYPOINT ["conclave-gateway"]

FROM base AS router
LABEL org.opencontainers.image.title="conclave-router"
COPY --from=build /out/conclave-router /
RUN /usr/libexec/conclave/finish-image conclave-router "${VERSION:-0.1.0}"
USER 10001:10001
ENV CONCLAVE_ROUTER_LISTEN=tcp://0.0.0.0:7800
EXPOSE 7800 9464
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s CMD ["conclave-router", "health"]
ENTRYPOINT ["conclave-router"]

FROM base AS expert-worker
LABEL org.opencontainers.image.title="conclave-expert-worker"
COPY --from=build /out/conclave-expert-worker /
RUN /usr/libexec/conclave/finish-image conclave-expert-worker "${VERSION:-0.1.0}"
USER 10001:10001
ENV CONCLAVE_EXPERT_WORKER_LISTEN=tcp://0.0.0.0:7700
EXPOSE 7700 9464
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s CMD ["conclave-expert-worker", "health"]
ENTRYPOINT ["conclave-expert-worker"]

FROM base AS scheduler
LABEL org.opencontainers.image.title="conclave-scheduler"
COPY --from=build /out/conclave-scheduler /
RUN /usr/libexec/conclave/finish-image conclave-scheduler "${VERSION:-0.1.0}"
USER 10001:10001
ENV CONCLAVE_SCHEDULER_LISTEN=tcp://0.0.0.0:7600
EXPOSE 7600 9464
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s CMD ["conclave-scheduler", "health"]
ENTRYPOINT ["conclave-scheduler"]

FROM base AS registry
LABEL org.opencontainers.image.title="conclave-registry"
COPY --from=build /out/conclave-registry /
RUN /usr/libexec/conclave/finish-image conclave-registry "${VERSION:-0.1.0}"
USER 10001:10001
ENV CONCLAVE_REGISTRY_LISTEN=tcp://0.0.0.0:7601
EXPOSE 7601 9464
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s CMD ["conclave-registry", "health"]
ENTRYPOINT ["conclave-registry"]

FROM base AS conclave
LABEL org.opencontainers.image.title="conclave"
COPY --from=build /out/conclave /
RUN /usr/libexec/conclave/finish-image conclave "${VERSION:-0.1.0}"
USER 10001:10001
ENTRYPOINT ["conclave"]
