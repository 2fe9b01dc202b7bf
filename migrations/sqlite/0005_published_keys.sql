-- Since when each key that signs access tokens has been in a key set of a replica: who starts anew knows by it whether
-- others could see a key before it signs. A row for every key there ever was.
CREATE TABLE published_keys (
    kid          TEXT NOT NULL,
    algorithm    TEXT NOT NULL,
    published_at BIGINT NOT NULL,
    PRIMARY KEY (kid, algorithm)
);
