DROP INDEX deliveries_at_work;
