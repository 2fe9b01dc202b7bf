-- The audit: who did what to whom, when and from where. Rows outlive their users, so nothing here refers to `users`.
-- Failures of one kind within a minute share a row: `bucket` names it, and is NULL in every other row.
CREATE TABLE audit (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         BIGINT NOT NULL,
    action     TEXT NOT NULL,
    outcome    TEXT NOT NULL,
    actor      BIGINT,
    subject    BIGINT,
    ip         TEXT,
    request_id TEXT,
    count      BIGINT NOT NULL,
    bucket     TEXT UNIQUE
);

CREATE INDEX audit_by_time ON audit (at);
CREATE INDEX audit_by_actor ON audit (actor, id) WHERE actor IS NOT NULL;
CREATE INDEX audit_by_subject ON audit (subject, id) WHERE subject IS NOT NULL;

-- Finds the superusers, of whom the last active one stays.
CREATE INDEX superusers ON users (id) WHERE is_superuser;
