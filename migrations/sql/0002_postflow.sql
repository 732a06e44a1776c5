-- PostFlow's own tables. The queue's tables (procrastinate_*) are Procrastinate's.

CREATE TABLE users (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email         text NOT NULL CONSTRAINT users_email_is_lower CHECK (email = lower(email)),
    password_hash text NOT NULL,
    display_name  text NOT NULL DEFAULT '',
    time_zone     text NOT NULL DEFAULT 'UTC',
    is_owner      boolean NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT users_email_once UNIQUE (email)
);
-- One owner, however many first-run pages are sent off at once.
CREATE UNIQUE INDEX users_one_owner ON users (is_owner) WHERE is_owner;

CREATE TABLE sessions (
    token_hash   bytea PRIMARY KEY,
    user_id      bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    user_agent   text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (user_id);

-- Counters of Flask-Limiter, shared by every web process.
CREATE TABLE rate_counters (
    key        text PRIMARY KEY,
    hits       integer NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE TABLE servers (
    platform     text NOT NULL,
    base_url     text NOT NULL,
    software     text NOT NULL,
    version      text NOT NULL DEFAULT '',
    title        text NOT NULL DEFAULT '',
    limits       jsonb NOT NULL,
    capabilities jsonb NOT NULL,
    fetched_at   timestamptz NOT NULL,
    PRIMARY KEY (platform, base_url)
);

-- PostFlow registered as a client: once per instance and redirect address.
CREATE TABLE apps (
    platform     text NOT NULL,
    base_url     text NOT NULL,
    option       text NOT NULL,
    redirect_uri text NOT NULL,
    sealed       bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (platform, base_url, option, redirect_uri)
);

-- Sent off to a consent page and not yet back.
CREATE TABLE connect_attempts (
    state_hash bytea PRIMARY KEY,
    user_id    bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    platform   text NOT NULL,
    base_url   text NOT NULL,
    option     text NOT NULL,
    sealed     bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE accounts (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id          bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    platform         text NOT NULL,
    base_url         text NOT NULL,
    remote_id        text NOT NULL,
    handle           text NOT NULL,
    display_name     text NOT NULL DEFAULT '',
    avatar_url       text,
    profile_url      text,
    option           text NOT NULL DEFAULT '',
    sealed           bytea,
    state            text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'needs_reconnect', 'disconnected')),
    state_reason     text,
    token_expires_at timestamptz,
    throttled_until  timestamptz,
    verified_at      timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT accounts_once UNIQUE (user_id, platform, base_url, remote_id),
    CONSTRAINT accounts_active_has_credentials CHECK (state <> 'active' OR sealed IS NOT NULL),
    CONSTRAINT accounts_disconnected_forgets CHECK (state <> 'disconnected' OR sealed IS NULL)
);

CREATE TABLE media (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    filename   text NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('image', 'gif', 'video')),
    mime       text NOT NULL,
    size_bytes bigint NOT NULL,
    width      integer NOT NULL,
    height     integer NOT NULL,
    duration_s double precision,
    sha256     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX media_by_user ON media (user_id);

-- The original (recipe = '') and what was made of it. JPEG does not compress further: store it as it is.
CREATE TABLE media_files (
    media_id bigint NOT NULL REFERENCES media ON DELETE CASCADE,
    recipe   text NOT NULL,
    mime     text NOT NULL,
    width    integer NOT NULL,
    height   integer NOT NULL,
    data     bytea NOT NULL,
    PRIMARY KEY (media_id, recipe)
);
ALTER TABLE media_files ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE posts (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id           bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    parent_id         bigint REFERENCES posts ON DELETE CASCADE,
    content           jsonb NOT NULL,
    post_date         timestamptz,
    time_zone         text NOT NULL,
    grace_s           integer CHECK (grace_s >= 0),
    revision          integer NOT NULL DEFAULT 1,
    draft_account_ids bigint[],
    form_key          text,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT posts_have_a_date_or_are_drafts CHECK (post_date IS NOT NULL OR draft_account_ids IS NOT NULL),
    -- The same form sent twice (double click, reload) makes one post.
    CONSTRAINT posts_form_once UNIQUE (user_id, form_key)
);
CREATE INDEX posts_by_user_and_date ON posts (user_id, post_date);
CREATE INDEX posts_by_parent ON posts (parent_id) WHERE parent_id IS NOT NULL;

CREATE TABLE post_media (
    post_id  bigint NOT NULL REFERENCES posts ON DELETE CASCADE,
    media_id bigint NOT NULL REFERENCES media,
    PRIMARY KEY (post_id, media_id)
);
CREATE INDEX post_media_by_media ON post_media (media_id);

CREATE TABLE deliveries (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    post_id         bigint NOT NULL REFERENCES posts ON DELETE CASCADE,
    account_id      bigint NOT NULL REFERENCES accounts,
    status          text NOT NULL DEFAULT 'scheduled' CHECK (status IN ('scheduled', 'preparing', 'ready', 'sending',
                        'unknown', 'published', 'failed', 'attention', 'missed', 'cancelled')),
    status_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    revision        integer NOT NULL,
    staged          jsonb,
    staged_at       timestamptz,
    attempt_no      integer NOT NULL DEFAULT 0,
    key_seed        uuid NOT NULL DEFAULT gen_random_uuid(),
    key_no          integer NOT NULL DEFAULT 0,
    asked_at        timestamptz,
    not_before      timestamptz,
    wake_at         timestamptz,
    claim           text,
    first_sent_at   timestamptz,
    sent_at         timestamptz,
    payload_hash    text,
    published_at    timestamptz,
    remote_id       text,
    permalink       text,
    looks           integer NOT NULL DEFAULT 0,
    absent_looks    integer NOT NULL DEFAULT 0,
    first_absent_at timestamptz,
    faults          integer NOT NULL DEFAULT 0,
    error_code      text,
    error           text,
    next_step       text,
    notes           text[] NOT NULL DEFAULT '{}',
    created_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT deliveries_once UNIQUE (post_id, account_id),
    -- Whatever still has somewhere to go says by when; the sweep finds what overslept.
    CONSTRAINT deliveries_moving_have_a_wake CHECK
        ((status IN ('scheduled', 'preparing', 'ready', 'sending', 'unknown')) = (wake_at IS NOT NULL)),
    CONSTRAINT deliveries_claimed_while_worked_on CHECK
        (status NOT IN ('preparing', 'sending') OR claim IS NOT NULL),
    CONSTRAINT deliveries_ready_is_staged CHECK (status NOT IN ('ready', 'sending') OR staged IS NOT NULL),
    CONSTRAINT deliveries_intent_before_sending CHECK
        (status NOT IN ('sending', 'unknown') OR (sent_at IS NOT NULL AND first_sent_at IS NOT NULL AND attempt_no > 0)),
    CONSTRAINT deliveries_published_at CHECK ((status = 'published') = (published_at IS NOT NULL)),
    CONSTRAINT deliveries_say_why CHECK (status NOT IN ('failed', 'attention', 'missed') OR error IS NOT NULL)
);
CREATE INDEX deliveries_by_wake ON deliveries (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX deliveries_by_account ON deliveries (account_id, status);
CREATE INDEX deliveries_by_sending ON deliveries (account_id, sent_at) WHERE sent_at IS NOT NULL;
-- One visible request per account at a time, whatever goes wrong around it.
CREATE UNIQUE INDEX deliveries_one_sending_per_account ON deliveries (account_id) WHERE status = 'sending';
CREATE UNIQUE INDEX deliveries_one_owner_per_status ON deliveries (account_id, remote_id) WHERE remote_id IS NOT NULL;
CREATE INDEX deliveries_published ON deliveries (published_at) WHERE published_at IS NOT NULL;

CREATE TABLE delivery_events (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id bigint NOT NULL REFERENCES deliveries ON DELETE CASCADE,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    status      text NOT NULL,
    sentence    text NOT NULL,
    detail      jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX delivery_events_by_delivery ON delivery_events (delivery_id, id);

-- What a person should hear outside the pages: once per key, by mail and webhook where configured.
CREATE TABLE notices (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    key        text NOT NULL UNIQUE,
    subject    text NOT NULL,
    body       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at    timestamptz
);
