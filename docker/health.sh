#!/bin/bash
# health.sh PORT PATH: 0 when http://127.0.0.1:PORT/PATH answers 200 in time, else 1. Bash opens the connection itself,
# so that images need no other client.
set -u
trap '' PIPE # a server that hangs up is an answer too

exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nConnection: close\r\n\r\n' "$2" "$1" >&3 || exit 1
read -r -t 3 _ status _ <&3 || exit 1
[ "$status" = 200 ] || exit 1
