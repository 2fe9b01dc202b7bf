#!/bin/sh
# Puts a backup in the place of the database (docs/deployment.md, Compose). In the folder of docker-compose.yml:
#
#   deploy/compose/restore.sh signet.dump
#
# The service serves until the backup is read, so a backup that cannot be read changes nothing. Then it does what a
# restored database needs (docs/operations.md, What a restored backup means): new users get ids that are far above those
# of the backup, the feed of revocations gets a new id, and a new secrets/refresh_key ends all sessions. The database of
# before stays, as signet_before_restore.
set -eu
fail() { echo "$*" >&2; exit 1; }
postgres() { docker compose exec -T postgres "$@"; }
sql() { postgres psql --username postgres --no-psqlrc --quiet --no-align --tuples-only --set ON_ERROR_STOP=1 --dbname "$1"; }

[ -r "${1:?usage: deploy/compose/restore.sh FILE}" ] || fail "There is no file $1 that can be read."
[ -f docker-compose.yml ] || fail "There is no docker-compose.yml in this folder: go to the folder that has it."
[ -w secrets/refresh_key ] || fail "secrets/refresh_key cannot be written, and a restore changes it: run this as its owner."
key=$(openssl rand -base64 48)
earlier=$(echo "SELECT datname FROM pg_database WHERE datname = 'signet_before_restore'" | sql postgres)
[ -z "$earlier" ] || fail "There is a database $earlier: what Signet had before an earlier restore.
docs/deployment.md, Backup and restore, says how to go back to it, and how to drop it if you do not need it."

postgres dropdb --username postgres --if-exists --force restored </dev/null
postgres createdb --username postgres --owner signet_owner restored </dev/null
postgres pg_restore --username postgres --exit-on-error --dbname restored <"$1"

# Without these three, dash ends at a signal without the command of EXIT.
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
trap 'echo "Not restored, and the service is stopped. docker compose up --detach --wait starts it with the database of
before. If secrets/refresh_key has changed already, all users must sign in again." >&2' EXIT
docker compose stop signet
# After the loss of a volume the database is empty, and does not know the last id.
last=$(echo "SELECT coalesce(max(last_value), 0) FROM pg_sequences WHERE sequencename = 'users_id_seq'" | sql signet)
sql restored <<SQL
SELECT setval('users_id_seq', greatest($last, last_value) + 100000) FROM users_id_seq \g /dev/null
UPDATE revocation_feed SET feed_id = gen_random_uuid();
SQL
# Before the databases change places: otherwise sessions that have ended could go on. Written over, not replaced: the
# containers see this very file.
echo "$key" >secrets/refresh_key
sql postgres <<'SQL'
BEGIN;
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ('signet', 'restored') \g /dev/null
ALTER DATABASE signet RENAME TO signet_before_restore;
ALTER DATABASE restored RENAME TO signet;
COMMIT;
SQL
trap - EXIT
echo "Restored; the database of before is now signet_before_restore. Starting the service."
docker compose up --detach --wait
echo "Access tokens that were revoked after the backup are accepted until they expire; change the signing key if that is"
echo "too long. Users, API keys and clients are as they were at the time of the backup. Make a new backup now."
