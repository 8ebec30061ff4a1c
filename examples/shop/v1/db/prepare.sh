#!/bin/sh
# Creates the database cluster on an empty volume, and gives the shop its password. Runs before every start.
set -eu

bin=/usr/lib/postgresql/15/bin
volume=${1:-/var/lib/postgresql}

if [ ! -e "$volume/data" ]; then
    # Made beside its place and moved there when it is whole: a power cut half way leaves nothing that looks finished.
    rm -rf "$volume/data.new"
    "$bin/initdb" --pgdata="$volume/data.new" --auth=reject --encoding=UTF8 --locale=C --no-instructions
    "$bin/postgres" --single -D "$volume/data.new" postgres <<'SQL'
CREATE ROLE shop LOGIN
CREATE DATABASE shop OWNER shop
SQL
    mv "$volume/data.new" "$volume/data"
    sync
fi

# At every start, as another password may have been set since. PostgreSQL reads the file itself: the password is in no
# command line, and only a hash of it is kept.
"$bin/postgres" --single -D "$volume/data" postgres <<SQL
DO 'BEGIN EXECUTE format(''ALTER ROLE shop PASSWORD %L'', pg_read_file(''$PASSWORD_FILE'')); END'
SQL
