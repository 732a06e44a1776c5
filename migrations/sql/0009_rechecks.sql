-- Published after more than one request may have been carried out: looked at again, and its person told when it is out twice.
CREATE TABLE rechecks (
    delivery_id bigint PRIMARY KEY REFERENCES deliveries ON DELETE CASCADE,
    look_at     timestamptz NOT NULL,
    since       timestamptz NOT NULL,
    looks       integer NOT NULL DEFAULT 0
);
CREATE INDEX rechecks_by_look ON rechecks (look_at);
