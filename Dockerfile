# docker build -t ocisync . && docker run -v ocisync:/var/lib/ocisync -v ./ocisync.yaml:/etc/ocisync/ocisync.yaml:ro ocisync
# A release pins the base by its digest: docker build --build-arg BASE=python@sha256:… (skopeo inspect tells it). No digest
# stands here, because it would age with nobody looking: each build without one has the newest fixes of the base.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE} AS build
WORKDIR /src
RUN python -m venv /opt/ocisync
COPY requirements.lock ./
RUN /opt/ocisync/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY ocisync ./ocisync
RUN /opt/ocisync/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
 && /opt/ocisync/bin/pip uninstall --yes hatchling trove-classifiers tomlkit pathspec pluggy pip

FROM ${BASE}
LABEL org.opencontainers.image.title="ocisync" \
      org.opencontainers.image.description="Keeps container-image mirrors fresh" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/ocisync /opt/ocisync
ENV PATH=/opt/ocisync/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN install -d -o 65532 -g 65532 /var/lib/ocisync
USER 65532:65532
WORKDIR /var/lib/ocisync
VOLUME /var/lib/ocisync
EXPOSE 8080
STOPSIGNAL SIGTERM
# The configuration must set daemon.listen to 0.0.0.0:8080 for probes from outside; this one is from inside.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["ocisync"]
CMD ["run", "-c", "/etc/ocisync/ocisync.yaml", "--log-format", "json"]
