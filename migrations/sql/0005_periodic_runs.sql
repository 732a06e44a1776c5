-- When each periodic job last ran and how it ended: for `postflow doctor` and /metrics, long after the queue's row is purged.
CREATE TABLE periodic_runs (
    name     text PRIMARY KEY,
    label    text NOT NULL,
    cron     text NOT NULL,
    next_at  timestamptz NOT NULL,
    began_at timestamptz,
    ended_at timestamptz,
    outcome  text CHECK (outcome IN ('done', 'failed')),
    said     text NOT NULL DEFAULT '',
    CONSTRAINT periodic_runs_end_with_an_outcome CHECK ((ended_at IS NULL) = (outcome IS NULL))
);
