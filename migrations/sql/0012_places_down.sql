DROP INDEX deliveries_one_alike_in_doubt;
DROP INDEX deliveries_one_owner_per_status;
DROP TRIGGER postflow_place_of_new_delivery ON deliveries;
DROP FUNCTION postflow_place_of_delivery();
ALTER TABLE deliveries DROP COLUMN likeness, DROP COLUMN place;
CREATE UNIQUE INDEX deliveries_one_owner_per_status ON deliveries (account_id, remote_id) WHERE remote_id IS NOT NULL;
