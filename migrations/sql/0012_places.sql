-- Two people may have connected the same account of a network: whose status it is, and which posts could be taken for each
-- other, is asked by the account as the network knows it.
ALTER TABLE deliveries
    ADD COLUMN place text,
    -- The same for posts that a look on the network could not tell apart; written before the request leaves.
    ADD COLUMN likeness text;

UPDATE deliveries SET place = concat_ws(' ', a.platform, a.base_url, a.remote_id)
  FROM accounts a WHERE a.id = deliveries.account_id;
ALTER TABLE deliveries ALTER COLUMN place SET NOT NULL;

CREATE FUNCTION postflow_place_of_delivery()
    RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    NEW.place := (SELECT concat_ws(' ', platform, base_url, remote_id) FROM accounts WHERE id = NEW.account_id);
    RETURN NEW;
END;
$$;
CREATE TRIGGER postflow_place_of_new_delivery
    BEFORE INSERT ON deliveries
    FOR EACH ROW EXECUTE FUNCTION postflow_place_of_delivery();

-- One status that two posts were taken to be is the one that was published first; nobody knows where the other one is.
WITH doubles AS (
    SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY place, remote_id ORDER BY published_at, id) AS nth
                      FROM deliveries WHERE remote_id IS NOT NULL) AS numbered
     WHERE nth > 1)
UPDATE deliveries SET remote_id = NULL, permalink = NULL, notes = notes || ARRAY[
       'Another post with the same words was found to be the one on the network: look whether this one is out.']
  FROM doubles WHERE deliveries.id = doubles.id;

DROP INDEX deliveries_one_owner_per_status;
CREATE UNIQUE INDEX deliveries_one_owner_per_status ON deliveries (place, remote_id) WHERE remote_id IS NOT NULL;
-- While it is not known whether a post is out, none that could be taken for it is sent.
CREATE UNIQUE INDEX deliveries_one_alike_in_doubt ON deliveries (place, likeness) WHERE status IN ('sending', 'unknown');
