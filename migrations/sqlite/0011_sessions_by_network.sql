-- Whether an address has signed in to an account takes the same time however many sessions the account has.
CREATE INDEX sessions_by_network ON sessions (user_id, network);
