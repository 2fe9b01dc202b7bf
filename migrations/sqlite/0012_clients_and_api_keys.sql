-- Clients: programs with a secret of their own. `scopes` are words with a space between them, `audiences` is a JSON array.
CREATE TABLE clients (
    id            BLOB PRIMARY KEY NOT NULL,
    name          TEXT NOT NULL,
    secret_sha256 BLOB NOT NULL,
    scopes        TEXT NOT NULL,
    audiences     TEXT NOT NULL,
    created_at    INTEGER NOT NULL
) STRICT;

-- API keys: secrets of users, stored as their hash only. `id` is the `sid` of the access tokens. A key that has ended has no
-- row.
CREATE TABLE api_keys (
    id            BLOB PRIMARY KEY NOT NULL,
    user_id       INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name          TEXT NOT NULL,
    secret_sha256 BLOB NOT NULL UNIQUE,
    audience      TEXT,
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER,
    last_used_at  INTEGER
) STRICT;

CREATE INDEX api_keys_by_user ON api_keys (user_id, created_at, id);
CREATE INDEX api_keys_by_end ON api_keys (expires_at) WHERE expires_at IS NOT NULL;
