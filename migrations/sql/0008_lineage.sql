-- Which history of this database we are in. A replica that was promoted goes on with another timeline, a dump that was
-- restored is a table made anew, and either may have forgotten what had been sent.

CREATE TABLE lineage (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    mark    text NOT NULL,
    seen_at timestamptz NOT NULL -- when a sweep last found this history to be the present one
);

-- The table as it was made, the cluster, and the timeline of its log. A provider that grants none of the latter two leaves
-- the first. In its own block, since a pooled session must not meet an error that says only this.
CREATE FUNCTION postflow_lineage() RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    mark text := (SELECT 'lineage'::regclass::oid::text);
BEGIN
    BEGIN
        mark := mark || ' ' || (SELECT system_identifier FROM pg_control_system());
    EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_function THEN NULL;
    END;
    BEGIN
        mark := mark || ' ' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8);
    EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_function
                OR object_not_in_prerequisite_state THEN NULL;
    END;
    RETURN mark;
END $$;

INSERT INTO lineage (mark, seen_at) VALUES (postflow_lineage(), clock_timestamp());
