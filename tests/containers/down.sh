#!/usr/bin/env bash
# Takes down what test runs left behind: containers and networks of Testcontainers, and the Docker daemon if up.sh started it.
# Images and fetched packages stay in target/parts; delete that folder to begin afresh.
set -euo pipefail

parts="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/target/parts"
label=org.testcontainers.managed-by=testcontainers

if timeout 10 docker version >/dev/null 2>&1; then
  docker ps -aq --filter "label=$label" | xargs -r docker rm -f -v >/dev/null
  docker network prune -f --filter "label=$label" >/dev/null
fi
if [ -e "$parts/dockerd.pid" ]; then
  pid="$(cat "$parts/dockerd.pid")"
  if [ -r "/proc/$pid/comm" ] && [ "$(cat "/proc/$pid/comm")" = dockerd ]; then kill -TERM "$pid"; fi
  rm -f "$parts/dockerd.pid"
fi
