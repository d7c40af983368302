# Pin the base by digest where the build must be repeatable: --build-arg BASE_IMAGE=python:3.12-slim-bookworm@sha256:…
ARG BASE_IMAGE=python:3.12-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /src
# What serves gets no pip; the pip of a second environment fills it.
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/bertserve
COPY . .
RUN /opt/pip/bin/pip install --no-cache-dir --constraint constraints.txt hatchling \
    && /opt/pip/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/pip/bin/pip --python /opt/bertserve/bin/python install --no-cache-dir --constraint constraints.txt /wheels/*.whl

FROM ${BASE_IMAGE}
COPY --from=build /opt/bertserve /opt/bertserve
COPY --chmod=644 deploy/healthcheck.py /opt/bertserve/healthcheck.py
ENV PATH=/opt/bertserve/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    BERTSERVE_HOST=0.0.0.0
USER 10001:10001
WORKDIR /tmp
EXPOSE 50051 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "/opt/bertserve/healthcheck.py"]
# A bundle to serve instead of the demo model: docker run -v /path/to/bundle:/models/name:ro IMAGE /models/name
ENTRYPOINT ["bertserve"]
