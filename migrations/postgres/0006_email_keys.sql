-- What an e-mail is compared by: folded instead of in lower case, and a domain's letters instead of xn--. A version that
-- does not know this column leaves it NULL, and compares by e-mail as before.
ALTER TABLE users ADD COLUMN email_key TEXT COLLATE "C";

CREATE UNIQUE INDEX users_by_email_key ON users (COALESCE(email_key, email));

-- The users whose keys the program still has to make, because SQL cannot fold: those of a version before, and those whose
-- key another user has (a blank and the id are behind theirs). The service looks every minute.
CREATE INDEX users_to_fold ON users (id)
WHERE email_key IS NULL AND (octet_length(email) <> length(email)
        OR octet_length(username) <> length(username) OR replace(email, 'xn--', '') <> email)
    OR replace(email_key, ' ', '') <> email_key;
