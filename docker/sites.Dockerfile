# The embedded sites at port 8000.
#   docker build -f docker/sites.Dockerfile -t turngym-sites .
FROM python:3.11-slim-bookworm

RUN useradd --uid 1000 --create-home sites

ENV PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# Only what `turngym sites` imports (a test runs it with nothing else): no PyTorch, which the package itself asks for.
# constraints.txt has the versions.
WORKDIR /src
COPY constraints.txt ./
# hadolint ignore=DL3013
RUN pip install --quiet -c constraints.txt gymnasium httpx jinja2 numpy python-multipart starlette uvicorn

COPY pyproject.toml README.md LICENSE ./
COPY envs envs
COPY wrappers wrappers
COPY agents agents
COPY trainers trainers
RUN pip install --quiet --no-deps .

COPY docker/health.sh /usr/local/bin/

USER 1000:1000
WORKDIR /home/sites
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["health.sh", "8000", "/-/health"]
ENTRYPOINT ["turngym", "sites", "--host", "0.0.0.0"]
