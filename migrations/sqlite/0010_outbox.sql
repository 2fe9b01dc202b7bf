-- Mails to be sent: a kind, a normalised address and a time, never a token or a code. A row whose address has no account
-- is like any other, and no mail is sent for it. Rows stay for an hour after they are done: `at` is part of each code.
CREATE TABLE outbox (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    kind        TEXT NOT NULL,
    address     TEXT NOT NULL,
    at          INTEGER NOT NULL,
    queued_at   INTEGER NOT NULL,
    next_try_at INTEGER NOT NULL,
    tries       INTEGER NOT NULL,
    is_done     INTEGER NOT NULL CHECK (is_done IN (0, 1))
) STRICT;

CREATE INDEX outbox_by_address ON outbox (address, kind, at);
-- One mail of these kinds to an address in a minute, also when replicas queue it at once.
CREATE UNIQUE INDEX outbox_one_a_minute ON outbox (address, kind, (queued_at / 60))
    WHERE kind IN ('reset-password', 'verify-email');
CREATE INDEX outbox_by_time ON outbox (at) WHERE is_done;
CREATE INDEX outbox_to_do ON outbox (next_try_at) WHERE NOT is_done;

-- The replica that sends mail, until which time.
CREATE TABLE leases (
    name       TEXT PRIMARY KEY NOT NULL,
    holder     TEXT NOT NULL,
    held_until INTEGER NOT NULL
) STRICT;

INSERT INTO leases (name, holder, held_until) VALUES ('mail', '', 0);
