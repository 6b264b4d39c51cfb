# The operator's image: docker build -t <registry>/incident-operator:0.1.0 .
# Every package is checked against a hashed lock; the Python is the oldest that pyproject.toml supports.
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /build
ENV UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
COPY requirements-build.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements-build.lock
RUN uv venv /opt/operator
COPY requirements.lock ./
RUN uv pip install --python /opt/operator --only-binary :all: --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
# By the locked build backend: an isolated build would fetch one that nobody has checked.
RUN python -m hatchling build --target wheel
RUN uv pip install --python /opt/operator --no-deps dist/*.whl
# Compiled once here: the root file system is read-only where it runs.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/operator/lib

FROM python:3.11.14-slim-bookworm
COPY --from=build /opt/operator /opt/operator
ENV PATH=/opt/operator/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# The number, not a name: runAsNonRoot can be checked without looking into the image.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["incident-operator"]
CMD ["run"]
