#!/bin/sh
# The part of the official image's start script that tests rest on: POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB, a first
# server on standard output while the database is made, the real one on standard error.
set -eu
case "${1:-postgres}" in
  -*) set -- postgres "$@" ;;
esac
if [ "$1" != postgres ]; then exec "$@"; fi
user="${POSTGRES_USER:-postgres}"
database="${POSTGRES_DB:-$user}"
if ! [ -s "$PGDATA/PG_VERSION" ]; then
  method=trust
  printf '%s' "${POSTGRES_PASSWORD:-}" > /tmp/password
  if [ -n "${POSTGRES_PASSWORD:-}" ]; then
    method=scram-sha-256
    initdb --username="$user" --pwfile=/tmp/password --encoding=UTF8 --locale=C --no-sync
  else
    initdb --username="$user" --encoding=UTF8 --locale=C --no-sync
  fi
  rm /tmp/password
  printf 'host all all all %s\n' "$method" >> "$PGDATA/pg_hba.conf"
  pg_ctl -w -o "-c listen_addresses=''" start 2>&1
  if [ "$database" != postgres ]; then
    createdb --username="$user" --maintenance-db=postgres "$database"
  fi
  pg_ctl -w -m fast stop
fi
shift
exec postgres -c listen_addresses='*' "$@"
