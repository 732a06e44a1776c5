-- Budgets that begin anew with a person's word: workers that ended while they prepared it since then, and how many times
-- in a row the network asked to wait and did not say how long.
ALTER TABLE deliveries ADD COLUMN deaths integer NOT NULL DEFAULT 0, ADD COLUMN pauses integer NOT NULL DEFAULT 0;
-- A network may ask to wait with uploads alone: what has nothing left to upload goes on.
ALTER TABLE accounts ADD COLUMN uploads_throttled_until timestamptz;
-- Whose turn it is on an account, without reading all that is scheduled there.
CREATE INDEX deliveries_waiting ON deliveries (account_id, wake_at) WHERE status IN ('scheduled', 'preparing', 'ready');
