CREATE OR REPLACE TRIGGER postflow_tell_the_bell_of_new
    AFTER INSERT ON procrastinate_jobs
    FOR EACH ROW WHEN (NEW.status = 'todo'::procrastinate_job_status AND NEW.scheduled_at > now())
    EXECUTE FUNCTION postflow_tell_the_bell();

ALTER TABLE periodic_runs DROP COLUMN time_zone, DROP COLUMN deferred_at;
