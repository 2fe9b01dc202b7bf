-- What an e-mail is compared by, where it is not the e-mail itself: folded instead of in lower case, and a domain's letters
-- instead of xn--. A version that does not know this column leaves it NULL, and compares by e-mail as before.
ALTER TABLE users ADD COLUMN email_key TEXT;

-- A blank and the id: what the program is still to look at, because SQL cannot fold. It does so right after this migration.
UPDATE users SET email_key = ' ' || id
WHERE length(CAST(email AS BLOB)) <> length(email) OR length(CAST(username AS BLOB)) <> length(username)
   OR email LIKE '%xn--%';

CREATE UNIQUE INDEX users_by_email_key ON users (COALESCE(email_key, email));
