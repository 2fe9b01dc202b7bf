-- Failed sign-ins in a row, by account and by class of client address: one that has signed in to the account, or another.
-- `account` is an HMAC of the name that was sent, so that the table tells no name and has unknown accounts, too.
CREATE TABLE sign_in_failures (
    account        BLOB NOT NULL,
    is_known       INTEGER NOT NULL CHECK (is_known IN (0, 1)),
    failures       INTEGER NOT NULL,
    last_failed_at INTEGER NOT NULL,
    PRIMARY KEY (account, is_known)
) STRICT, WITHOUT ROWID;

CREATE INDEX sign_in_failures_by_age ON sign_in_failures (last_failed_at);

-- The client's network: an IPv4 address, or the /64 of an IPv6 address. NULL in sessions of earlier versions.
ALTER TABLE sessions ADD COLUMN network TEXT;
UPDATE sessions SET network = ip WHERE ip LIKE '%.%' AND ip NOT LIKE '%:%';
