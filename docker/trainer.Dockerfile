# The trainer with a browser: no root, no display.
#   docker build -f docker/trainer.Dockerfile -t turngym .
#   docker run --rm -v turngym-runs:/home/turngym/runs turngym
FROM python:3.11-slim-bookworm

# No versions: a browser wants its security updates, and Debian's mirrors keep no old ones.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends chromium-headless-shell \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home turngym \
    && install -d -o turngym /home/turngym/runs

ENV PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# PyTorch first and alone: its index serves nothing else, and its layer changes least.
ARG TORCH_INDEX=
WORKDIR /src
COPY constraints.txt ./
RUN pip install --quiet -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch

COPY pyproject.toml README.md LICENSE ./
COPY envs envs
COPY wrappers wrappers
COPY agents agents
COPY trainers trainers
RUN pip install --quiet -c constraints.txt '.[demo,peft]'

USER 1000:1000
WORKDIR /home/turngym
ENTRYPOINT ["turngym"]
CMD ["demo"]
