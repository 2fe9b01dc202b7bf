#!/bin/sh
# Makes the database and its two roles (docs/database.md, Roles and permissions). PostgreSQL's image runs this once, while
# its volume is empty. The passwords are those of the URLs that Signet reads.
set -eu
psql --username "${POSTGRES_USER:-postgres}" --dbname postgres --no-psqlrc --quiet --set ON_ERROR_STOP=1 <<'SQL'
\set owner_password `sed 's|^[^:]*://[^:]*:\([^@]*\)@.*|\1|' /run/secrets/owner_url`
\set password `sed 's|^[^:]*://[^:]*:\([^@]*\)@.*|\1|' /run/secrets/database_url`
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
