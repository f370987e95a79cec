# nfbench with everything that the workflow needs, at the versions of requirements.lock.
#
#   docker build --tag nfbench:cpu .
#   docker build --tag nfbench:cuda --build-arg TORCH_INDEX= .
#
# PyPI's torch for Linux on x86-64 contains CUDA, so the image for GPUs needs no index and no CUDA base image;
# the machine needs NVIDIA's driver and container toolkit. The image for CPUs is several GB smaller.
ARG BASE=python:3.11.13-slim-bookworm
FROM ${BASE}

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=pipeline,search,tracking,export,peers,demo,cluster

# git records the commit in each result
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 nfbench \
    && install --directory --owner nfbench --group nfbench /nfbench /opt/venv

USER nfbench
WORKDIR /nfbench
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1

# the packages first, so that an edit of the code does not install them again
COPY --chown=nfbench:nfbench pyproject.toml requirements.lock README.md LICENSE ./
COPY --chown=nfbench:nfbench nfbench/__init__.py nfbench/
RUN python -m venv /opt/venv \
    && pip install --no-cache-dir --constraint requirements.lock \
    ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} --editable ".[$EXTRAS]"

COPY --chown=nfbench:nfbench . .
CMD ["snakemake", "--cores", "all"]
