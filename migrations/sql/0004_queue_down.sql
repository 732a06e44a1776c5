-- Procrastinate's queue as it ships.

DROP FUNCTION procrastinate_fetch_job_v2(character varying[], bigint);
ALTER FUNCTION postflow_stock_fetch_job_v2(character varying[], bigint) RENAME TO procrastinate_fetch_job_v2;
DROP FUNCTION postflow_look_ahead(character varying[], integer);
DROP FUNCTION postflow_must_wait_for_lock(text, integer, bigint);
DROP INDEX postflow_jobs_due, postflow_jobs_lock;

DROP TRIGGER postflow_tell_the_bell_of_new ON procrastinate_jobs;
DROP TRIGGER postflow_tell_the_bell_of_moved ON procrastinate_jobs;
DROP FUNCTION postflow_tell_the_bell();
DROP TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1 ON procrastinate_jobs;
CREATE TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1
    AFTER INSERT ON procrastinate_jobs
    FOR EACH ROW WHEN (NEW.status = 'todo'::procrastinate_job_status)
    EXECUTE FUNCTION procrastinate_notify_queue_job_inserted_v1();

ALTER TABLE procrastinate_jobs RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold,
    autovacuum_vacuum_insert_scale_factor, autovacuum_analyze_scale_factor);
ALTER TABLE procrastinate_events RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_insert_scale_factor);
ALTER TABLE deliveries RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold,
    autovacuum_analyze_scale_factor);
