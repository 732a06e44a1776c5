-- A house in use under revision 0007: one row of each kind, and a delivery in each state with its queue's jobs.

INSERT INTO users (email, password_hash, display_name, time_zone, is_owner) VALUES
    ('ada@example.org', 'not a hash', 'Ada', 'Europe/Berlin', true),
    ('bob@example.org', 'not a hash', 'Bob', 'UTC', false);
INSERT INTO sessions (token_hash, user_id, expires_at) SELECT '\x01', id, now() + interval '30 days' FROM users WHERE is_owner;
INSERT INTO rate_counters VALUES ('sign-in/ada', 2, now() + interval '15 minutes');
INSERT INTO servers VALUES ('mastodon', 'https://birds.example', 'mastodon', '4.6.0', 'Birds', '{}', '{}', now());
INSERT INTO apps VALUES ('mastodon', 'https://birds.example', '', 'http://localhost:8000/accounts/callback', '\x02');
INSERT INTO connect_attempts SELECT '\x03', id, 'pixelfed', 'https://pics.example', '', '\x04' FROM users WHERE is_owner;
INSERT INTO accounts (user_id, platform, base_url, remote_id, handle, sealed, state, state_reason)
    SELECT id, 'mastodon', 'https://birds.example', number, '@ada' || number || '@birds.example', '\x05', 'active', NULL
      FROM users, generate_series(1, 10) AS number WHERE is_owner;
INSERT INTO accounts (user_id, platform, base_url, remote_id, handle, sealed, state, state_reason) VALUES
    ((SELECT id FROM users WHERE is_owner), 'pixelfed', 'https://pics.example', '1', '@ada@pics.example', '\x05',
     'needs_reconnect', 'The server no longer accepts this access.'),
    ((SELECT id FROM users WHERE is_owner), 'instagram', '', '17', '@ada', NULL, 'disconnected', NULL);
INSERT INTO media (user_id, filename, kind, mime, size_bytes, width, height, sha256)
    SELECT id, 'sea.jpg', 'image', 'image/jpeg', 3, 640, 480, 'a0' FROM users WHERE is_owner;
INSERT INTO media_files SELECT id, recipe, 'image/jpeg', 640, 480, '\xffd8ff' FROM media, unnest(ARRAY['', 'fit']) AS recipe;
INSERT INTO posts (user_id, content, post_date, time_zone, grace_s, form_key)
    SELECT id, '{"text": "Zwölf Boxkämpfer 🥊", "language": "de"}', now() + interval '1 day', 'Europe/Berlin', 600, 'form'
      FROM users WHERE is_owner;
INSERT INTO posts (user_id, parent_id, content, post_date, time_zone)
    SELECT user_id, id, '{"text": "part two"}', post_date, time_zone FROM posts;
INSERT INTO posts (user_id, content, time_zone, draft_account_ids) SELECT id, '{"text": "a draft"}', 'UTC', '{1, 2}' FROM users;
INSERT INTO post_media SELECT posts.id, media.id FROM posts, media WHERE form_key = 'form';

INSERT INTO deliveries (post_id, account_id, revision, status, wake_at, claim, staged, attempt_no, first_sent_at, sent_at,
                        payload_hash, published_at, remote_id, permalink, error_code, error, next_step)
    SELECT posts.id, accounts.id, 1, stage, CASE WHEN moving THEN now() + interval '1 day' END,
           CASE WHEN stage IN ('preparing', 'sending') THEN 'a worker' END,
           CASE WHEN stage IN ('ready', 'sending', 'unknown', 'published', 'attention') THEN '{"media_ids": ["9"]}'::jsonb END,
           sent::integer, sent_at, sent_at, CASE WHEN sent THEN 'b1' END,
           CASE WHEN stage = 'published' THEN now() - interval '1 hour' END,
           CASE WHEN stage = 'published' THEN '112233' END,
           CASE WHEN stage = 'published' THEN 'https://birds.example/@ada/112233' END,
           CASE WHEN over THEN 'refused' END, CASE WHEN over THEN 'The server refused it.' END, CASE WHEN over THEN 'Edit it.' END
      FROM unnest(ARRAY['scheduled', 'preparing', 'ready', 'sending', 'unknown', 'published', 'failed', 'attention', 'missed',
                        'cancelled']) WITH ORDINALITY AS states (stage, number)
      JOIN accounts ON accounts.platform = 'mastodon' AND accounts.remote_id = number::text
      JOIN posts ON posts.form_key = 'form'
     CROSS JOIN LATERAL (SELECT stage IN ('scheduled', 'preparing', 'ready', 'sending', 'unknown') AS moving,
                                stage IN ('failed', 'attention', 'missed') AS over,
                                stage IN ('sending', 'unknown', 'published', 'attention') AS sent) AS kinds
     CROSS JOIN LATERAL (SELECT CASE WHEN sent THEN now() - interval '1 hour' END AS sent_at) AS times;
INSERT INTO delivery_events (delivery_id, status, sentence, detail) SELECT id, status, 'As it was.', '{"of": 7}' FROM deliveries;
INSERT INTO notices (user_id, key, subject, body, kind, mailed_at, sent_at)
    SELECT id, 'failed:1', 'A post failed', 'Look at it.', 'failed', now(), now() FROM users WHERE is_owner;

INSERT INTO procrastinate_workers DEFAULT VALUES;
INSERT INTO procrastinate_jobs (queue_name, task_name, args, priority, scheduled_at, queueing_lock)
    SELECT 'posts', 'publish', jsonb_build_object('delivery_id', id), 10, wake_at, 'publish/' || id
      FROM deliveries WHERE wake_at IS NOT NULL;
UPDATE procrastinate_jobs SET status = 'doing', worker_id = (SELECT id FROM procrastinate_workers)
    WHERE id = (SELECT min(id) FROM procrastinate_jobs);
INSERT INTO procrastinate_jobs (queue_name, task_name, status)
    SELECT 'posts', 'sweep', status FROM unnest(ARRAY['succeeded', 'failed', 'cancelled', 'aborted']::procrastinate_job_status[])
        AS status;
INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp, periodic_id) VALUES ('sweep', 1795000000, '');
INSERT INTO periodic_runs (name, label, cron, next_at, began_at, ended_at, outcome, said, time_zone, deferred_at) VALUES
    ('purge', 'Tidy up', '15 4 * * *', now() + interval '1 hour', now(), now(), 'done', 'stories 3', 'UTC', now());
