-- The queue for a scheduler, whose normal state is a long future. docs/queue.md says why and what was measured.
-- Procrastinate's own fetch function stays, under another name: the downgrade and the benchmarks use it.

-- What is due stands at the front of its priority, whatever the future holds behind it.
CREATE INDEX postflow_jobs_due ON procrastinate_jobs (priority DESC, scheduled_at, id)
    WHERE status = 'todo'::procrastinate_job_status;
-- Who stands first at a lock; empty as long as nobody uses locks.
CREATE INDEX postflow_jobs_lock ON procrastinate_jobs (lock, priority DESC, id)
    WHERE status = 'todo'::procrastinate_job_status AND lock IS NOT NULL;

CREATE FUNCTION postflow_must_wait_for_lock(_lock text, _priority integer, _id bigint)
    RETURNS boolean
    LANGUAGE sql STABLE
AS $$
    -- A job with this lock is running, or waits with a higher priority, or with the same one and came first.
    SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE lock = _lock AND status = 'doing')
        OR EXISTS (SELECT FROM procrastinate_jobs
                    WHERE lock = _lock AND lock IS NOT NULL AND status = 'todo' AND priority > _priority)
        OR EXISTS (SELECT FROM procrastinate_jobs
                    WHERE lock = _lock AND lock IS NOT NULL AND status = 'todo' AND priority = _priority AND id < _id)
$$;

ALTER FUNCTION procrastinate_fetch_job_v2(character varying[], bigint) RENAME TO postflow_stock_fetch_job_v2;

-- As the stock function, but the order inside one priority is scheduled_at, id, then what has no date, by id; and it
-- walks the priorities downward, so that it touches what is due and never what is not. The settings leave the planner
-- one choice, the index in its own order, on tables of any size that were never analysed or lie about themselves.
CREATE FUNCTION procrastinate_fetch_job_v2(target_queue_names character varying[], p_worker_id bigint)
    RETURNS procrastinate_jobs
    LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $$
DECLARE
    level integer;
    found_id bigint;
    found_job procrastinate_jobs;
BEGIN
    SELECT priority INTO level FROM procrastinate_jobs WHERE status = 'todo' ORDER BY priority DESC LIMIT 1;
    WHILE level IS NOT NULL LOOP
        SELECT job.id INTO found_id FROM procrastinate_jobs AS job
         WHERE job.status = 'todo' AND job.priority = level AND job.scheduled_at <= now()
           AND (target_queue_names IS NULL OR job.queue_name = ANY (target_queue_names))
           AND (job.lock IS NULL OR NOT postflow_must_wait_for_lock(job.lock, job.priority, job.id))
         ORDER BY job.scheduled_at, job.id LIMIT 1 FOR UPDATE SKIP LOCKED;
        IF found_id IS NULL THEN
            SELECT job.id INTO found_id FROM procrastinate_jobs AS job
             WHERE job.status = 'todo' AND job.priority = level AND job.scheduled_at IS NULL
               AND (target_queue_names IS NULL OR job.queue_name = ANY (target_queue_names))
               AND (job.lock IS NULL OR NOT postflow_must_wait_for_lock(job.lock, job.priority, job.id))
             ORDER BY job.scheduled_at, job.id LIMIT 1 FOR UPDATE SKIP LOCKED;
        END IF;
        IF found_id IS NOT NULL THEN
            UPDATE procrastinate_jobs SET status = 'doing', worker_id = p_worker_id
             WHERE id = found_id RETURNING * INTO found_job;
            RETURN found_job;
        END IF;
        SELECT priority INTO level FROM procrastinate_jobs
         WHERE status = 'todo' AND priority < level ORDER BY priority DESC LIMIT 1;
    END LOOP;
    RETURN found_job;
END;
$$;

-- For the due bell (worker/bell.py): how many jobs are due and untaken, in how many seconds the next one is, and how
-- many come together with it. Counts stop at `most`. The next one counts whatever its queue: a filter would have to
-- read the whole future of the others.
CREATE FUNCTION postflow_look_ahead(target_queue_names character varying[], most integer)
    RETURNS TABLE (due integer, next_in_s double precision, together integer)
    LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $$
DECLARE
    level integer;
    levels integer[] := '{}';
    moment timestamptz := clock_timestamp();
    next_at timestamptz;
    here_at timestamptz;
    here integer;
BEGIN
    due := 0;
    together := 0;
    SELECT priority INTO level FROM procrastinate_jobs WHERE status = 'todo' ORDER BY priority DESC LIMIT 1;
    WHILE level IS NOT NULL LOOP
        levels := levels || level;
        SELECT count(*) INTO here FROM (
            SELECT FROM procrastinate_jobs
             WHERE status = 'todo' AND priority = level AND scheduled_at <= moment
               AND (target_queue_names IS NULL OR queue_name = ANY (target_queue_names))
             ORDER BY scheduled_at, id LIMIT most - due) AS waiting;
        due := due + here;
        SELECT scheduled_at INTO here_at FROM procrastinate_jobs
         WHERE status = 'todo' AND priority = level AND scheduled_at > moment
         ORDER BY scheduled_at, id LIMIT 1;
        next_at := least(next_at, here_at);
        SELECT priority INTO level FROM procrastinate_jobs
         WHERE status = 'todo' AND priority < level ORDER BY priority DESC LIMIT 1;
    END LOOP;
    FOREACH level IN ARRAY levels LOOP
        EXIT WHEN next_at IS NULL;
        SELECT count(*) INTO here FROM (
            SELECT FROM procrastinate_jobs
             WHERE status = 'todo' AND priority = level AND scheduled_at > moment
               AND scheduled_at <= next_at + interval '20 milliseconds'
             ORDER BY scheduled_at, id LIMIT most - together) AS coming;
        together := together + here;
    END LOOP;
    -- Not further than a year: 'infinity' minus a moment is no number.
    next_in_s := extract(epoch FROM least(next_at, moment + interval '1 year') - clock_timestamp());
    RETURN NEXT;
END;
$$;

-- A job for tomorrow wakes nobody but the bell. The payload is the second it is due in: a thousand of one second in one
-- transaction are one notification, and the bell need not look when something else comes before.
CREATE FUNCTION postflow_tell_the_bell()
    RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM pg_notify('postflow_bell', floor(extract(epoch FROM coalesce(NEW.scheduled_at, now())))::text);
    RETURN NULL;
END;
$$;

-- The stock trigger and its function, but only for what may start at once. What falls due between the start of its
-- transaction and this trigger tells both: never neither.
DROP TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1 ON procrastinate_jobs;
CREATE TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1
    AFTER INSERT ON procrastinate_jobs
    FOR EACH ROW WHEN (NEW.status = 'todo'::procrastinate_job_status
                       AND (NEW.scheduled_at IS NULL OR NEW.scheduled_at <= clock_timestamp()))
    EXECUTE FUNCTION procrastinate_notify_queue_job_inserted_v1();
CREATE TRIGGER postflow_tell_the_bell_of_new
    AFTER INSERT ON procrastinate_jobs
    FOR EACH ROW WHEN (NEW.status = 'todo'::procrastinate_job_status AND NEW.scheduled_at > now())
    EXECUTE FUNCTION postflow_tell_the_bell();
-- Stock tells nobody of a job that is given back or moved; the next poll would find it.
CREATE TRIGGER postflow_tell_the_bell_of_moved
    AFTER UPDATE OF status, scheduled_at ON procrastinate_jobs
    FOR EACH ROW WHEN (NEW.status = 'todo'::procrastinate_job_status
                       AND (OLD.status IS DISTINCT FROM NEW.status
                            OR OLD.scheduled_at IS DISTINCT FROM NEW.scheduled_at))
    EXECUTE FUNCTION postflow_tell_the_bell();

-- By default a fifth of a table dies before it is vacuumed: with a million jobs ahead, weeks of finished ones.
ALTER TABLE procrastinate_jobs SET (
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE procrastinate_events SET (
    autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
ALTER TABLE deliveries SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500, autovacuum_analyze_scale_factor = 0.05);
