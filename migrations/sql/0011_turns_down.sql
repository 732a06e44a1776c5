DROP INDEX deliveries_waiting;
ALTER TABLE accounts DROP COLUMN uploads_throttled_until;
ALTER TABLE deliveries DROP COLUMN deaths, DROP COLUMN pauses;
