"""What a database is made of, by its catalogs: two that were made in different ways can be compared."""

import psycopg

_KINDS: dict[str, str] = {
    "tables and indexes": """
        SELECT relname, relkind, relpersistence, array_to_string(reloptions, ' ') FROM pg_class
        WHERE relnamespace = 'public'::regnamespace
    """,
    "columns": """
        SELECT attrelid::regclass::text, row_number() OVER (PARTITION BY attrelid ORDER BY attnum), attname,
               format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, attstorage,
               pg_get_expr(adbin, adrelid)
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
    """,
    "constraints": """
        SELECT conrelid::regclass::text, conname, convalidated, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND contype <> 'n' -- a row for each NOT NULL, from 18 on
    """,
    "indexes": """
        SELECT indexrelid::regclass::text, indisvalid, pg_get_indexdef(indexrelid)
        FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE relnamespace = 'public'::regnamespace
    """,
    "sequences": """
        SELECT sequencename, data_type::text, start_value, min_value, max_value, increment_by, cycle, cache_size,
               pg_describe_object(deps.refclassid, deps.refobjid, deps.refobjsubid)
        FROM pg_sequences LEFT JOIN pg_depend AS deps
             ON deps.objid = sequencename::regclass AND deps.classid = 'pg_class'::regclass AND deps.deptype IN ('a', 'i')
        WHERE schemaname = 'public'
    """,
    "triggers": """
        SELECT tgrelid::regclass::text, tgname, tgenabled, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
    """,
    "functions": """
        SELECT oid::regprocedure::text, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    """,
    "enums": """
        SELECT enumtypid::regtype::text, string_agg(enumlabel, ', ' ORDER BY enumsortorder) FROM pg_enum GROUP BY 1
    """,
    "types": """
        SELECT typname, typtype FROM pg_type WHERE typnamespace = 'public'::regnamespace
    """,
    "comments": """
        SELECT pg_describe_object(classoid, objoid, objsubid), description FROM pg_description
        JOIN pg_class ON pg_class.oid = objoid WHERE relnamespace = 'public'::regnamespace
    """,
}


def of(conn: psycopg.Connection) -> dict[str, list[tuple[object, ...]]]:
    """The kinds of things in the schema `public`, each sorted."""
    return {kind: sorted(conn.execute(query.encode()).fetchall(), key=str) for kind, query in _KINDS.items()}


def row_counts(conn: psycopg.Connection) -> dict[str, int]:
    names = conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").fetchall()
    return {name: conn.execute(f'SELECT count(*) FROM "{name}"'.encode()).fetchall()[0][0] for (name,) in names}
