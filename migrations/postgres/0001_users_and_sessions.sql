-- Times are unix seconds in UTC. E-mail and username_key are normalised (NFC, lower case) before they get here;
-- COLLATE "C" orders them by bytes, as SQLite does, so that a search by prefix is a range of the index.
CREATE TABLE users (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email         TEXT COLLATE "C" NOT NULL CONSTRAINT users_email_key UNIQUE,
    username      TEXT NOT NULL,
    username_key  TEXT COLLATE "C" NOT NULL CONSTRAINT users_username_key UNIQUE,
    password_hash TEXT NOT NULL,
    first_name    TEXT NOT NULL,
    last_name     TEXT NOT NULL,
    is_active     BOOLEAN NOT NULL,
    is_staff      BOOLEAN NOT NULL,
    is_superuser  BOOLEAN NOT NULL,
    is_verified   BOOLEAN NOT NULL,
    created_at    BIGINT NOT NULL,
    last_login    BIGINT
);

-- One row per sign-in, however often it is refreshed. No token and no hash of one is ever stored.
CREATE TABLE sessions (
    id                  UUID PRIMARY KEY,
    user_id             BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    generation          BIGINT NOT NULL,
    created_at          BIGINT NOT NULL,
    rotated_at          BIGINT NOT NULL,
    last_used_at        BIGINT NOT NULL,
    expires_at          BIGINT NOT NULL,
    absolute_expires_at BIGINT NOT NULL,
    revoked_at          BIGINT,
    user_agent          TEXT,
    ip                  TEXT
);

CREATE INDEX sessions_by_user ON sessions (user_id, created_at);
CREATE INDEX sessions_by_end ON sessions (expires_at);
