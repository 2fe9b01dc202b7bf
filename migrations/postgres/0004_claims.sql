-- A user's own claims: a JSON object that its access tokens have beside the registered claims. So short that a token
-- stays below the 8 KiB that are looked at.
ALTER TABLE users ADD COLUMN claims TEXT NOT NULL DEFAULT '{}'
    CONSTRAINT users_claims_object CHECK (json_typeof(claims::json) = 'object' AND octet_length(claims) <= 4096);
