-- Times are unix seconds in UTC. E-mail and username_key are normalised (NFC, lower case) before they get here.
-- AUTOINCREMENT: an id is never given twice, not even after a deletion.
CREATE TABLE users (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    email         TEXT NOT NULL CONSTRAINT users_email_key UNIQUE,
    username      TEXT NOT NULL,
    username_key  TEXT NOT NULL CONSTRAINT users_username_key UNIQUE,
    password_hash TEXT NOT NULL,
    first_name    TEXT NOT NULL,
    last_name     TEXT NOT NULL,
    is_active     INTEGER NOT NULL CHECK (is_active IN (0, 1)),
    is_staff      INTEGER NOT NULL CHECK (is_staff IN (0, 1)),
    is_superuser  INTEGER NOT NULL CHECK (is_superuser IN (0, 1)),
    is_verified   INTEGER NOT NULL CHECK (is_verified IN (0, 1)),
    created_at    INTEGER NOT NULL,
    last_login    INTEGER
) STRICT;

-- One row per sign-in, however often it is refreshed. No token and no hash of one is ever stored.
CREATE TABLE sessions (
    id                  BLOB PRIMARY KEY NOT NULL,
    user_id             INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    generation          INTEGER NOT NULL,
    created_at          INTEGER NOT NULL,
    rotated_at          INTEGER NOT NULL,
    last_used_at        INTEGER NOT NULL,
    expires_at          INTEGER NOT NULL,
    absolute_expires_at INTEGER NOT NULL,
    revoked_at          INTEGER,
    user_agent          TEXT,
    ip                  TEXT
) STRICT;

CREATE INDEX sessions_by_user ON sessions (user_id, created_at);
CREATE INDEX sessions_by_end ON sessions (expires_at);
