#!/bin/sh
# Makes the database and its two roles (docs/database.md, Roles and permissions). PostgreSQL's image runs this once, while
# its volume is empty: if it fails, mend the cause, then `docker compose down --volumes` and start again. The passwords are
# those of the URLs that Signet reads.
set -eu
password_of() {
    sed -n 's|^postgres://[^:]*:\([0-9A-Za-z]*\)@.*|\1|p' "/run/secrets/$1" | grep . \
        || { echo "roles.sh: user $(id -u) finds no password of letters and digits in /run/secrets/$1" >&2; return 1; }
}
OWNER_PASSWORD=$(password_of owner_url)
PASSWORD=$(password_of database_url)
export OWNER_PASSWORD PASSWORD
psql --username "${POSTGRES_USER:-postgres}" --dbname postgres --no-psqlrc --quiet --set ON_ERROR_STOP=1 <<'SQL'
\getenv owner_password OWNER_PASSWORD
\getenv password PASSWORD
CREATE ROLE signet_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE signet LOGIN PASSWORD :'password';
CREATE DATABASE signet OWNER signet_owner ENCODING 'UTF8' TEMPLATE template0;
\connect signet
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT ALL ON SCHEMA public TO signet_owner;
GRANT USAGE ON SCHEMA public TO signet;
ALTER DEFAULT PRIVILEGES FOR ROLE signet_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO signet;
SQL
