-- A user's own claims: a JSON object that its access tokens have beside the registered claims. So short that a token
-- stays below the 8 KiB that are looked at.
ALTER TABLE users ADD COLUMN claims TEXT NOT NULL DEFAULT '{}'
    CONSTRAINT users_claims_object CHECK (json_valid(claims) AND json_type(claims) = 'object' AND length(CAST(claims AS BLOB)) <= 4096);
