-- What /metrics counts (postflow/totals.py). Whatever happens leaves a line in the transaction in which it happens, so a
-- counter says neither more nor less than the rows do; no two transactions write the same row, so nobody waits for a
-- counter. The sweep folds the lines into totals every minute. Purging stories and deleting people takes nothing away.

CREATE TABLE totals (
    what    text NOT NULL,
    network text NOT NULL,
    label   text NOT NULL,
    le      double precision NOT NULL, -- seconds: the smallest bound that is not below; infinity where nothing is measured
    count   bigint NOT NULL,
    sum_s   double precision NOT NULL,
    PRIMARY KEY (what, network, label, le)
);

-- Lines not folded yet; a minute's worth.
CREATE TABLE tallies (
    what    text NOT NULL,
    network text NOT NULL,
    label   text NOT NULL,
    seconds double precision
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- 'move': from which state to which; seconds: how long it was worked on. 'late': seconds between the time it was to go
-- out (its date, or its person's later word) and the request that brought it out.
CREATE FUNCTION postflow_tally_move() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    network text;
BEGIN
    SELECT platform INTO network FROM accounts WHERE id = CASE TG_OP WHEN 'DELETE' THEN OLD.account_id ELSE NEW.account_id END;
    IF TG_OP = 'INSERT' THEN
        INSERT INTO tallies VALUES ('move', network, '>' || NEW.status);
    ELSIF TG_OP = 'DELETE' THEN -- the account may go with it
        INSERT INTO tallies VALUES ('move', coalesce(network, ''), OLD.status || '>');
    ELSE
        INSERT INTO tallies VALUES ('move', network, OLD.status || '>' || NEW.status,
            CASE WHEN OLD.status IN ('preparing', 'sending')
                 THEN greatest(0, extract(epoch FROM NEW.status_at - OLD.status_at)) END);
        IF NEW.status = 'published' AND NEW.sent_at IS NOT NULL THEN
            INSERT INTO tallies
            SELECT 'late', network, '', greatest(0, extract(epoch FROM NEW.sent_at - greatest(p.post_date, NEW.asked_at)))
              FROM posts p WHERE p.id = NEW.post_id;
        END IF;
    END IF;
    RETURN NULL;
END;
$$;

CREATE TRIGGER deliveries_tally_new AFTER INSERT ON deliveries
    FOR EACH ROW EXECUTE FUNCTION postflow_tally_move();
CREATE TRIGGER deliveries_tally_gone AFTER DELETE ON deliveries
    FOR EACH ROW EXECUTE FUNCTION postflow_tally_move();
CREATE TRIGGER deliveries_tally_move AFTER UPDATE OF status ON deliveries
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION postflow_tally_move();

-- 'error': what a network or the way to it did, by the code that the story keeps; passing faults as well.
CREATE FUNCTION postflow_tally_error() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tallies
    SELECT 'error', a.platform, NEW.detail ->> 'code'
      FROM deliveries d JOIN accounts a ON a.id = d.account_id WHERE d.id = NEW.delivery_id;
    RETURN NULL;
END;
$$;

CREATE TRIGGER delivery_events_tally_error AFTER INSERT ON delivery_events
    FOR EACH ROW WHEN (NEW.detail ->> 'code' IS NOT NULL) EXECUTE FUNCTION postflow_tally_error();

-- What is there already. The triggers above hold off whoever writes meanwhile.
INSERT INTO totals
SELECT 'move', a.platform, '>' || d.status, 'infinity', count(*), 0
  FROM deliveries d JOIN accounts a ON a.id = d.account_id GROUP BY a.platform, d.status;
