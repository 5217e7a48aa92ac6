# A headless Chromium whose DevTools answer at port 9222: what `turngym browsers up` runs as containers.
#   docker build -f docker/browser.Dockerfile -t turngym-browser docker
FROM debian:bookworm-slim

# No versions: a browser wants its security updates, and Debian's mirrors keep no old ones.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends chromium-headless-shell fonts-dejavu-core socat tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home browser

COPY browser.sh health.sh /usr/local/bin/

USER 1000:1000
WORKDIR /home/browser
EXPOSE 9222
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["health.sh", "9222", "/json/version"]
ENTRYPOINT ["tini", "--", "browser.sh"]
