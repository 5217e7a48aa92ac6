# The trainer with vLLM's CUDA build beside it: servers of its own, weights by file, NCCL or CUDA IPC. No root.
#   docker build -f docker/vllm.Dockerfile -t turngym-vllm .
#   docker run --rm --gpus all --ipc host -v turngym-runs:/home/turngym/runs turngym-vllm \
#       train webagent_r1 --sampler vllm --device cuda --browser-every 0
FROM python:3.11-slim-bookworm

# A compiler: Triton builds its launchers when it runs. No versions: Debian's mirrors keep no old ones.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home turngym \
    && install -d -o turngym /home/turngym/runs

ENV PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 VLLM_NO_USAGE_STATS=1

# vLLM first: it pins PyTorch and much else, which our constraints would contradict.
WORKDIR /src
RUN pip install --quiet vllm==0.32.0

COPY pyproject.toml README.md LICENSE ./
COPY envs envs
COPY wrappers wrappers
COPY agents agents
COPY trainers trainers
# The package lies here; only its extra has a range.
# hadolint ignore=DL3013
RUN pip install --quiet '.[web,peft]'

USER 1000:1000
WORKDIR /home/turngym
ENTRYPOINT ["turngym"]
CMD ["--help"]
