#!/bin/bash
# Headless Chromium with its DevTools at $PORT of every address: what docker/browser.Dockerfile runs.
#
#   PORT        where DevTools answer (9222)
#   OWN_PORT    where Chromium itself listens, on 127.0.0.1 (9223)
#   PROFILE     its folder ($HOME/profile)
#   CHROMIUM    the executable (chromium-headless-shell)
#   SITES_HOST  the host that serves *.localhost; unset: this one
#
# Chromium 156 listens on 127.0.0.1 alone and ignores --remote-debugging-address, so socat carries connections to it.
# DevTools refuse a Host header that is neither an IP address nor localhost: ask for http://127.0.0.1:9222, not for
# http://browser:9222. The flags are those of envs/web/chromium.py, with one more: Chromium's own sandbox needs rights
# that the container has given away, so the container is the sandbox.
set -eum # m: each job has a process group of its own, which can be ended as a whole

port=${PORT:-9222} own=${OWN_PORT:-9223}

rules='MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost , EXCLUDE *.localhost'
if [ -n "${SITES_HOST:-}" ]; then
    case $SITES_HOST in
    *[!A-Za-z0-9.:-]*)
        echo "browser.sh: SITES_HOST is no host name: $SITES_HOST" >&2
        exit 2
        ;;
    esac
    # The first rule that fits counts; it comes before Chromium's own rule that *.localhost is this machine.
    rules="MAP *.localhost $SITES_HOST , MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost"
fi

"${CHROMIUM:-chromium-headless-shell}" \
    --headless \
    --no-sandbox \
    --disable-breakpad \
    --disable-gpu \
    --disable-quic \
    --no-first-run \
    --disable-background-networking \
    --disable-component-update \
    --disable-sync \
    --force-webrtc-ip-handling-policy=disable_non_proxied_udp \
    --host-resolver-rules="$rules" \
    --remote-debugging-port="$own" \
    --user-data-dir="${PROFILE:-$HOME/profile}" \
    about:blank &
browser=$!

# Without the forwarder nobody reaches the browser: end it too, so that the container is started anew.
{
    socat "TCP-LISTEN:$port,fork,reuseaddr" "TCP:127.0.0.1:$own" || true
    kill -- "-$browser"
} &
forwarder=$!

end() {
    trap - EXIT
    kill -- "-$browser" "-$forwarder" 2>/dev/null || true
    for _ in {1..50}; do # Debian's command is a script that ends before its browser
        kill -0 -- "-$browser" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL -- "-$browser" 2>/dev/null || true
    wait
}
trap end EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

wait "$browser"
