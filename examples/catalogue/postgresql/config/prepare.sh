#!/bin/sh
# Creates the database cluster on an empty volume, and gives the user `app` its password. Runs before every start.
set -eu

bin=/usr/lib/postgresql/15/bin
volume=/var/lib/postgresql

if [ ! -e "$volume/data" ]; then
    # Made beside its place and moved there when it is whole: a power cut half way leaves nothing that looks finished.
    rm -rf "$volume/data.new"
    "$bin/initdb" --pgdata="$volume/data.new" --auth=reject --encoding=UTF8 --locale=C.UTF-8 --no-instructions
    "$bin/postgres" --single -D "$volume/data.new" postgres <<'SQL'
CREATE ROLE app LOGIN
CREATE DATABASE app OWNER app
SQL
    mv "$volume/data.new" "$volume/data"
    sync
fi

# At every start, as another password may have been set since. PostgreSQL reads the file itself: the password is in no
# command line, and only a hash of it is kept. What is logged of a statement would be its text, which has none.
"$bin/postgres" --single -D "$volume/data" -c config_file=/etc/app/postgresql.conf postgres <<SQL
DO 'BEGIN EXECUTE format(''ALTER ROLE app PASSWORD %L'', pg_read_file(''$PASSWORD_FILE'')); END'
SQL
