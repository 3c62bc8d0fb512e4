#!/usr/bin/env bash
# Run once by the PostgreSQL image on an empty volume: a role without any right beyond its own database.
# The password is read by the server's client from a file, so that no argument list shows it.
set -euo pipefail

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\set password `cat /run/secrets/database_password`
create role mcpa login nosuperuser nocreatedb nocreaterole noreplication password :'password';
create database mcpa owner mcpa;
revoke connect, temporary on database mcpa from public;
SQL
