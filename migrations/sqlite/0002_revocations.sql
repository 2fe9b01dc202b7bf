-- What was taken back before its time: one row per ended session (sid) or single token (jti), until the last access
-- token that it concerns has ended, one access-token lifetime after `ended_at`. `value` is the id's 128 bits.
CREATE TABLE revocations (
    seq        INTEGER NOT NULL,
    value      BLOB NOT NULL,
    claim      TEXT NOT NULL CHECK (claim IN ('sid', 'jti')),
    ended_at   INTEGER NOT NULL,
    PRIMARY KEY (seq, value)
) STRICT, WITHOUT ROWID;

CREATE INDEX revocations_by_end ON revocations (ended_at);

-- One row. Every transaction that takes something back begins by counting it up: whoever is second waits for the
-- first to commit, so that `seq` is gapless in the order of commits. `feed_id` tells one history from another.
CREATE TABLE revocation_feed (
    only_row INTEGER PRIMARY KEY NOT NULL DEFAULT 1 CHECK (only_row = 1),
    feed_id  BLOB NOT NULL,
    seq      INTEGER NOT NULL
) STRICT;

INSERT INTO revocation_feed (feed_id, seq) VALUES (randomblob(16), 0);

-- A user's sessions are asked for by their end: what has expired and is not purged yet is passed by, however much it is.
CREATE INDEX sessions_by_user_and_end ON sessions (user_id, expires_at);
DROP INDEX sessions_by_user;
