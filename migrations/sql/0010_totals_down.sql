DROP TRIGGER delivery_events_tally_error ON delivery_events;
DROP TRIGGER deliveries_tally_move ON deliveries;
DROP TRIGGER deliveries_tally_gone ON deliveries;
DROP TRIGGER deliveries_tally_new ON deliveries;
DROP FUNCTION postflow_tally_error();
DROP FUNCTION postflow_tally_move();
DROP TABLE tallies;
DROP TABLE totals;
