-- The keys that sign access tokens, as replicas have them in their key sets: since when, and when last. Who starts anew
-- knows by it whether others could see a key before it signs, and whether an older one is still good elsewhere.
-- A row for every key there ever was.
CREATE TABLE published_keys (
    kid          TEXT NOT NULL,
    algorithm    TEXT NOT NULL,
    published_at BIGINT NOT NULL,
    seen_at      BIGINT NOT NULL,
    PRIMARY KEY (kid, algorithm)
);
