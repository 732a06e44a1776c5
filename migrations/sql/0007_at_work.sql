-- The sweep looks every minute for workers that are gone, by the ends of their leases in both directions: a clock may have
-- been set back. Few rows are ever at work; without an index of their own it would read all that is scheduled.
CREATE INDEX deliveries_at_work ON deliveries (wake_at) WHERE status IN ('preparing', 'sending');
