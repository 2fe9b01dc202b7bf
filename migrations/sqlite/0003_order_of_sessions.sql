-- Which of a user's sessions of one second is the older: `number` counts the sign-ins of its user.
ALTER TABLE users ADD COLUMN sign_ins INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
