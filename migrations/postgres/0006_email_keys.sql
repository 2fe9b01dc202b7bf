-- What an e-mail is compared by, where it is not the e-mail itself: folded instead of in lower case, and a domain's letters
-- instead of xn--. A version that does not know this column leaves it NULL, and compares by e-mail as before.
ALTER TABLE users ADD COLUMN email_key TEXT COLLATE "C";

-- A blank and the id: what the program is still to look at, because SQL cannot fold. It does so right after this migration.
UPDATE users SET email_key = ' ' || id
WHERE octet_length(email) <> char_length(email) OR octet_length(username) <> char_length(username)
   OR email LIKE '%xn--%';

CREATE UNIQUE INDEX users_by_email_key ON users (COALESCE(email_key, email));
