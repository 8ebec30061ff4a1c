#!/bin/sh
# Creates the database cluster on an empty volume. Runs before every start, so it does nothing when there is one.
set -eu

bin=/usr/lib/postgresql/15/bin
volume=/var/lib/postgresql

if [ -e "$volume/data" ]; then
    exit 0
fi

# Made beside its place and moved there when it is whole: a power cut half way leaves nothing that looks finished.
rm -rf "$volume/data.new"
"$bin/initdb" --pgdata="$volume/data.new" --auth=reject --encoding=UTF8 --locale=C.UTF-8 --no-instructions
"$bin/postgres" --single -D "$volume/data.new" postgres <<'SQL'
CREATE ROLE app LOGIN PASSWORD 'change-me'
CREATE DATABASE app OWNER app
SQL
mv "$volume/data.new" "$volume/data"
sync
