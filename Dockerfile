# Coview in a container. Images and runs are mounted, and nothing else is written:
#
#   docker build -t coview .
#   docker run --rm -v "$PWD:/data" coview pretrain photos/ --budget 30m
#   docker run --rm -v "$PWD:/data" --gpus all --shm-size 8g coview pretrain photos/
#
# Not built where this project is developed, which has no container engine; a test lints the file
# (tests/test_dockerfile.py), and hadolint 2.15 has no complaint.
FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    COVIEW_CACHE=/data/.cache/coview \
    NUMBA_CACHE_DIR=/tmp/numba

# libgomp1: the OpenMP of torch and numba, which the slim image lacks. Debian removes old versions from
# its mirrors, so none is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 coview

COPY pyproject.toml README.md LICENSE /src/
COPY src /src/src
RUN pip install "/src[timm,jpeg]"

USER 1000
WORKDIR /data
ENTRYPOINT ["coview"]
CMD ["--help"]
