# Two targets: the server, which is the last and so the default, and `export`, which is bertexport.
# Pin the base by digest where the build must be repeatable: --build-arg BASE_IMAGE=python:3.12-slim-bookworm@sha256:…
ARG BASE_IMAGE=python:3.12-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /src
# What serves gets no pip; the pip of a second environment fills it.
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/bertserve
COPY . .
RUN /opt/pip/bin/pip install --no-cache-dir --constraint constraints.txt hatchling \
    && /opt/pip/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels ./proto . \
    && /opt/pip/bin/pip --python /opt/bertserve/bin/python install --no-cache-dir --constraint constraints.txt /wheels/*.whl
# A bundle of the build context to bake in, such as bundles/my-bert.
ARG BUNDLE=
# For the server's user to read, whoever else may read it where it comes from.
RUN mkdir /bundle && if [ -n "$BUNDLE" ]; then cp -r "$BUNDLE"/. /bundle/; fi && chmod -R a+rX /bundle

FROM ${BASE_IMAGE} AS serve
COPY --from=build /opt/bertserve /opt/bertserve
COPY --from=build /bundle /bundle
COPY --chmod=644 deploy/healthcheck.py /opt/bertserve/healthcheck.py
ARG BUNDLE=
# The name that a baked bundle is served by. Without one, the demo model is served.
ARG MODEL=bert
ENV PATH=/opt/bertserve/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    BERTSERVE_HOST=0.0.0.0 \
    BERTSERVE_BUNDLES=${BUNDLE:+${MODEL}=/bundle}
USER 10001:10001
WORKDIR /tmp
EXPOSE 50051 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "/opt/bertserve/healthcheck.py"]
# Another bundle than the baked one: docker run -v /path/to/bundle:/models/name:ro IMAGE /models/name
ENTRYPOINT ["bertserve"]

FROM build AS build-export
# Flags of pip for torch alone, such as an index of wheels for CPUs; PyPI's torch carries CUDA, some gigabytes.
ARG TORCH_FLAGS=
# hadolint ignore=SC2086
RUN python3 -m venv --without-pip /opt/bertexport \
    && /opt/pip/bin/pip --python /opt/bertexport/bin/python install --no-cache-dir --constraint constraints.txt $TORCH_FLAGS torch \
    && /opt/pip/bin/pip --python /opt/bertexport/bin/python install --no-cache-dir --constraint constraints.txt --find-links /wheels "bertserve[export]"

FROM ${BASE_IMAGE} AS export
COPY --from=build-export /opt/bertexport /opt/bertexport
ENV PATH=/opt/bertexport/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/tmp/huggingface
USER 10001:10001
WORKDIR /work
ENTRYPOINT ["bertexport"]

# Builders that know no targets, or build every stage before the last, need the server to be last.
FROM serve
