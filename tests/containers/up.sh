#!/usr/bin/env bash
# Brings up what the tests run against: Docker with the Kafka and PostgreSQL images, the broker's Java packages, an Ethereum
# node and compiled token contracts. Idempotent; fast when everything is there. Usage: up.sh [docker|kafka-libs|npm]...
#
# Prints KEY=VALUE lines and writes them to target/parts/env. Official images are pulled when a registry answers; otherwise
# stand-ins of the same tags are built from distribution and Maven packages, labelled local-substitute=1, and named as such.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
parts="$(cd "$here/../.." && pwd)/target/parts"
mkdir -p "$parts"
# shellcheck source=tests/containers/pins.env
. "$here/pins.env"

trap 'printf "up: failed at line %s; logs are in target/parts\n" "$LINENO" >&2' ERR
set -E

say() { printf 'up: %s\n' "$*" >&2; }

# One at a time: two test runs may start together.
exec 9>"$parts/lock"
flock 9

apt_install() {
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "missing: $*; install them, or run as root on a machine with apt"
    return 1
  fi
  say "installing $*"
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

daemon_answers() { timeout 10 docker version >/dev/null 2>&1; }

start_docker() {
  if daemon_answers; then return; fi
  if ! command -v dockerd >/dev/null || ! command -v iptables >/dev/null; then apt_install docker.io iptables; fi
  if [ "$(id -u)" != 0 ]; then say "the Docker daemon does not answer, and only root can start it"; return 1; fi
  if daemon_answers; then return; fi # The package may have started it.
  say "starting dockerd"
  setsid dockerd >"$parts/dockerd.log" 2>&1 9>&- &
  echo "$!" >"$parts/dockerd.pid"
  for _ in $(seq 1 60); do
    if daemon_answers; then return; fi
    sleep 0.5
  done
  say "dockerd did not come up; see target/parts/dockerd.log"
  return 1
}

kafka_libs() {
  local libs="$parts/kafka-libs"
  if [ -e "$libs/.complete" ] && cmp -s "$here/kafka/pom.xml" "$libs/.complete"; then return; fi
  if ! command -v mvn >/dev/null; then apt_install maven openjdk-17-jre-headless; fi
  say "fetching the broker's Java packages"
  rm -rf "$libs" "$parts/kafka-pom"
  mkdir -p "$parts/kafka-pom"
  cp "$here/kafka/pom.xml" "$parts/kafka-pom/"
  (cd "$parts/kafka-pom" && mvn -q -B dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$libs" >&2)
  rm -rf "$parts/kafka-pom"
  cp "$here/kafka/pom.xml" "$libs/.complete"
}

npm_parts() {
  local npm="$parts/npm"
  if [ -e "$npm/.complete" ] && cmp -s "$here/package-lock.json" "$npm/.complete"; then return; fi
  if ! command -v npm >/dev/null; then apt_install npm; fi
  say "fetching the Ethereum node and contracts"
  rm -rf "$npm"
  mkdir -p "$npm"
  cp "$here/package.json" "$here/package-lock.json" "$npm/"
  (cd "$npm" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2)
  cp "$here/package-lock.json" "$npm/.complete"
}

anvil_path() {
  # Before the first fetch there is no such folder, which is no failure.
  if [ ! -d "$parts/npm/node_modules/@foundry-rs" ]; then return; fi
  find "$parts/npm/node_modules/@foundry-rs" -type f -path '*/bin/anvil' -perm -u+x 2>/dev/null | sort | head -n 1
}

# A root file system of the distribution; the stand-ins grow from copies of it.
root_base() {
  if [ -e "$parts/base/.complete" ]; then return; fi
  if ! command -v debootstrap >/dev/null; then apt_install debootstrap; fi
  if [ "$(id -u)" != 0 ]; then say "stand-in images need root to be built"; return 1; fi
  say "building the base of the stand-in images"
  rm -rf "$parts/base"
  debootstrap --variant=minbase --include=ca-certificates bookworm "$parts/base" >"$parts/debootstrap.log" 2>&1
  touch "$parts/base/.complete"
}

# import_base NAME PACKAGE: the base with one package more, as an image.
import_base() {
  local name="$1" package="$2" root="$parts/root-$1"
  if docker image inspect "custos-local/$name:base" >/dev/null 2>&1; then return; fi
  root_base
  say "adding $package"
  rm -rf "$root"
  cp -a "$parts/base" "$root"
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod 755 "$root/usr/sbin/policy-rc.d"
  mkdir -p "$root/etc/postgresql-common"
  echo 'create_main_cluster = false' >"$root/etc/postgresql-common/createcluster.conf"
  cp -L /etc/resolv.conf "$root/etc/resolv.conf"
  # A mount namespace of its own: what is mounted for the installation is gone with it, whatever happens.
  # shellcheck disable=SC2016
  DEBIAN_FRONTEND=noninteractive unshare --mount sh -ec 'mount -t proc proc "$1/proc"
    chroot "$1" apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold "$2"' \
    install "$root" "$package" >"$parts/$name-apt.log" 2>&1
  rm -rf "$root/var/cache/apt" "$root/var/lib/apt/lists"
  tar -C "$root" -c . | docker import -c 'ENV LANG=C.UTF-8' - "custos-local/$name:base" >/dev/null
  rm -rf "$root"
}

build_kafka() {
  kafka_libs
  import_base kafka openjdk-17-jre-headless
  rm -rf "$parts/kafka-image"
  cp -r "$here/kafka" "$parts/kafka-image"
  cp -r "$parts/kafka-libs" "$parts/kafka-image/libs"
  docker build -q --build-arg BASE=custos-local/kafka:base -t "$KAFKA_IMAGE" "$parts/kafka-image" >/dev/null
  rm -rf "$parts/kafka-image"
}

build_postgres() {
  import_base postgres postgresql-15
  docker build -q --build-arg BASE=custos-local/postgres:base -t "$POSTGRES_IMAGE" "$here/postgres" >/dev/null
}

# image TAG BUILDER: there already, else the saved copy, else pulled, else built here.
image() {
  local tag="$1" builder="$2" saved
  saved="$parts/$builder.tar.zst"
  if docker image inspect "$tag" >/dev/null 2>&1; then return; fi
  if timeout 20 docker manifest inspect "$tag" >/dev/null 2>&1 && timeout 600 docker pull -q "$tag" >/dev/null 2>&1; then return; fi
  if [ -e "$saved" ] && command -v zstd >/dev/null && zstd -dcq "$saved" | docker load -q >/dev/null; then return; fi
  say "no registry answers for $tag: building a local stand-in"
  "$builder"
  if command -v zstd >/dev/null; then
    docker save "$tag" | zstd -3 -q -f -o "$saved.part" && mv "$saved.part" "$saved"
  fi
}

describe() {
  local label
  label="$(docker image inspect -f '{{index .Config.Labels "local-substitute"}}' "$1" 2>/dev/null || true)"
  if [ "$label" = 1 ]; then echo "$1 (local-substitute)"; else echo "$1 (official)"; fi
}

wanted=("$@")
if [ "${#wanted[@]}" = 0 ]; then wanted=(docker kafka-libs npm); fi
for part in "${wanted[@]}"; do
  case "$part" in
    docker)
      start_docker
      image "$KAFKA_IMAGE" build_kafka
      image "$POSTGRES_IMAGE" build_postgres
      ;;
    kafka-libs) kafka_libs ;;
    npm) npm_parts ;;
    *) say "unknown part $part: docker, kafka-libs or npm"; exit 2 ;;
  esac
done

{
  if daemon_answers; then
    for tag in "$KAFKA_IMAGE" "$POSTGRES_IMAGE"; do
      if docker image inspect "$tag" >/dev/null 2>&1; then say "image: $(describe "$tag")"; fi
    done
  fi
  if [ -e "$parts/kafka-libs/.complete" ]; then echo "CUSTOS_TEST_KAFKA_LIBS=$parts/kafka-libs"; fi
  anvil="$(anvil_path)"
  if [ -n "$anvil" ]; then
    echo "CUSTOS_TEST_ANVIL=$anvil"
    echo "CUSTOS_TEST_CONTRACTS=$parts/npm/node_modules/@openzeppelin/contracts/build/contracts"
  fi
} | tee "$parts/env"
