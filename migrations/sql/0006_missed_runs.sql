-- A run that was missed is made up for: the schedule it was planned by tells whether it still counts, and `deferred_at`
-- that it was given to the queue.
ALTER TABLE periodic_runs ADD COLUMN time_zone text NOT NULL DEFAULT '', ADD COLUMN deferred_at timestamptz;

-- A worker forgets a notification that comes while it looks, and what is due at its insertion was told once only: the
-- bell hears of it as well, and rings until it is taken.
CREATE OR REPLACE TRIGGER postflow_tell_the_bell_of_new
    AFTER INSERT ON procrastinate_jobs
    FOR EACH ROW WHEN (NEW.status = 'todo'::procrastinate_job_status AND NEW.scheduled_at IS NOT NULL)
    EXECUTE FUNCTION postflow_tell_the_bell();
