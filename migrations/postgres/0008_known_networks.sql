-- The client networks of deleted sessions: an address that signed in to an account stays known for some time.
CREATE TABLE known_networks (
    user_id      BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    network      TEXT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, network)
);

CREATE INDEX known_networks_by_age ON known_networks (last_seen_at);
