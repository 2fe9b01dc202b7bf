#!/bin/sh
# Puts a backup in the place of the database (docs/deployment.md, Compose). In the folder of docker-compose.yml:
#
#   deploy/compose/restore.sh signet.dump
#
# The service serves until the backup is read, so a backup that cannot be read changes nothing. Then it does what a
# restored database needs (docs/operations.md, What a restored backup means): the users' ids go on after the last one, the
# feed of revocations gets a new id, and a new secrets/refresh_key ends all sessions.
set -eu
[ -r "${1:?usage: deploy/compose/restore.sh FILE}" ] || { echo "There is no file $1 that can be read." >&2; exit 1; }
postgres() { docker compose exec -T postgres "$@"; }
sql() { postgres psql --username postgres --no-psqlrc --quiet --no-align --tuples-only --set ON_ERROR_STOP=1 --dbname "$1"; }

postgres dropdb --username postgres --if-exists --force restored </dev/null
postgres createdb --username postgres --owner signet_owner restored </dev/null
postgres pg_restore --username postgres --exit-on-error --dbname restored <"$1"

docker compose stop signet
# Without the present database: far above the ids of the backup.
last=$(echo 'SELECT last_value FROM users_id_seq' | sql signet) \
    || last=$(echo 'SELECT last_value + 100000 FROM users_id_seq' | sql restored)
sql restored <<SQL
SELECT setval('users_id_seq', greatest($last, (SELECT last_value FROM users_id_seq))) \g /dev/null
UPDATE revocation_feed SET feed_id = gen_random_uuid();
SQL
sql postgres <<'SQL'
DROP DATABASE IF EXISTS signet WITH (FORCE);
ALTER DATABASE restored RENAME TO signet;
SQL
# Written over, not replaced: the containers see this very file.
openssl rand -base64 48 >secrets/refresh_key
docker compose up --detach --wait
echo "Restored. Access tokens that were revoked after the backup are accepted until they expire; change the signing key"
echo "if that is too long. Users, API keys and clients are as they were at the time of the backup."
