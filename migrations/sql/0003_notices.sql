-- Notices are told by mail and webhook, each at least once, with an end to trying.

ALTER TABLE notices
    ADD COLUMN kind      text NOT NULL DEFAULT '',
    ADD COLUMN mailed_at timestamptz,
    ADD COLUMN posted_at timestamptz,
    ADD COLUMN tries     integer NOT NULL DEFAULT 0,
    ADD COLUMN try_at    timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN fault     text;
CREATE INDEX notices_by_try ON notices (try_at) WHERE sent_at IS NULL;
