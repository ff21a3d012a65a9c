-- Every statement the adapter runs, by name.
--
-- Each is complete in itself: one message to the server, no transaction around it, nothing kept between two, so a
-- pooler may hand every one to another connection. `clock` is the server's time, or the test's. READ COMMITTED is
-- assumed and is enough: a row that was locked is read as it is then, other rows as they were when the statement began.
--
-- `user_id = %(owner)s` stands for the scope: it becomes `user_id IS NULL` or `true` where the scope is another.
-- A mark that has passed counts as floor; trim_at tells whether one has, so that marks are rarely looked into. Where the
-- floor decides nothing in the statement, marks and time go along with the head and are read by the client.

-- name: find_head
-- The head of one session, whoever owns it, expired or not, what it remembers of a commit, and the time: what `judge`
-- needs. Nulls and the time where there is no such session.
WITH clock AS MATERIALIZED (SELECT coalesce(%(now)s::timestamptz, clock_timestamp()) AS now)
SELECT session.namespace, session.id, user_id, session.incarnation, session.version, last_commit, status, agent_name,
    current_route, current_step, session.last_seq, floor, last_message_at, completed_at, session.created_at, updated_at,
    expires_at, marks, now, past.commit_id, past.digest, past.version, past.created, past.first_seq, past.last_seq,
    past.message_count, past.committed_at
FROM clock
LEFT JOIN turnkeep_sessions AS session ON session.namespace = %(namespace)s AND session.id = %(id)s
LEFT JOIN turnkeep_commits AS past ON past.namespace = session.namespace AND past.session_id = session.id
    AND past.incarnation = session.incarnation AND past.commit_id = %(commit_id)s;

-- name: load
-- A session as one version of everything: a row with its head, documents and what it remembers of a commit; then, in no
-- order, a row for each message of the window (null: all of them), widened to begin where a commit began, and for each
-- message of that commit.
WITH clock AS MATERIALIZED (SELECT coalesce(%(now)s::timestamptz, clock_timestamp()) AS now),
head AS MATERIALIZED (
    SELECT session.*, now, past.commit_id AS past_id, past.digest, past.version AS past_version, past.created,
        past.first_seq, past.last_seq AS past_last_seq, past.message_count AS past_count, past.committed_at,
        greatest(floor, CASE WHEN trim_at <= now THEN (
            SELECT max((mark->>0)::bigint) FROM json_array_elements(marks::json) AS mark
            WHERE (mark->>1)::bigint <= (extract(epoch FROM now) * 1000000)::bigint
        ) END) AS bottom
    FROM clock CROSS JOIN turnkeep_sessions AS session
    LEFT JOIN turnkeep_commits AS past ON past.namespace = session.namespace AND past.session_id = session.id
        AND past.incarnation = session.incarnation AND past.commit_id = %(commit_id)s
    WHERE session.namespace = %(namespace)s AND session.id = %(id)s AND user_id = %(owner)s
        AND (expires_at IS NULL OR expires_at > now)
),
reach AS MATERIALIZED (
    SELECT *, greatest(bottom + 1, low - %(widen)s, least(low, (
        SELECT turn_seq FROM turnkeep_messages AS message
        WHERE message.namespace = head.namespace AND message.session_id = head.id
            AND message.incarnation = head.incarnation AND message.seq = head.low
    ))) AS begin
    FROM (
        SELECT *, greatest(bottom, last_seq - coalesce(%(window)s::bigint, last_seq)) + 1 AS low FROM head
    ) AS head
)
SELECT NULL AS message_id, NULL AS role, NULL AS content, NULL AS encoding, NULL AS name, NULL AS tool_calls,
    NULL AS tool_call_id, NULL AS route, NULL AS step, NULL AS event, NULL AS metadata, NULL AS reply,
    NULL::timestamptz AS message_created_at, NULL::bigint AS seq, NULL::bigint AS turn_seq, NULL AS commit_id,
    namespace, id, user_id, incarnation, version, last_commit, status, agent_name, current_route, current_step,
    last_seq, bottom, last_message_at, completed_at, created_at, updated_at, expires_at, past_id, digest, past_version,
    created, first_seq, past_last_seq, past_count, committed_at, begin, collected_data, state
FROM reach
UNION ALL
SELECT message.id, role, content, encoding, name, tool_calls, tool_call_id, route, step, event, metadata, reply,
    message.created_at, seq, turn_seq, commit_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM reach CROSS JOIN LATERAL (
    SELECT * FROM turnkeep_messages AS message
    WHERE message.namespace = reach.namespace AND message.session_id = reach.id
        AND message.incarnation = reach.incarnation AND seq >= begin
    UNION ALL
    SELECT * FROM turnkeep_messages AS message
    WHERE message.namespace = reach.namespace AND message.session_id = reach.id
        AND message.incarnation = reach.incarnation
        AND seq BETWEEN first_seq AND past_last_seq AND seq > bottom AND seq < begin
) AS message;

-- name: load_head
-- A session without messages, expired or not: the server plans this in a fraction of the time that `load` takes it.
SELECT namespace, id, user_id, incarnation, version, last_commit, status, agent_name, current_route, current_step,
    last_seq, floor, last_message_at, completed_at, created_at, updated_at, expires_at, marks,
    coalesce(%(now)s::timestamptz, clock_timestamp()) AS now, collected_data, state
FROM turnkeep_sessions
WHERE namespace = %(namespace)s AND id = %(id)s AND user_id = %(owner)s;

-- name: read_messages
-- A page of history: a row that says whether there is more, then its messages in no order. No row: no such session.
WITH clock AS MATERIALIZED (SELECT coalesce(%(now)s::timestamptz, clock_timestamp()) AS now),
head AS MATERIALIZED (
    SELECT namespace, id, incarnation, last_seq, greatest(floor, CASE WHEN trim_at <= now THEN (
        SELECT max((mark->>0)::bigint) FROM json_array_elements(marks::json) AS mark
        WHERE (mark->>1)::bigint <= (extract(epoch FROM now) * 1000000)::bigint
    ) END) + 1 AS bottom
    FROM clock CROSS JOIN turnkeep_sessions
    WHERE namespace = %(namespace)s AND id = %(id)s AND user_id = %(owner)s
        AND (expires_at IS NULL OR expires_at > now)
),
reach AS MATERIALIZED (
    SELECT namespace, id, incarnation, bottom, last_seq,
        CASE WHEN %(after)s::bigint IS NULL THEN greatest(bottom, high - %(limit)s + 1) ELSE low END AS low,
        CASE WHEN %(after)s::bigint IS NULL THEN high ELSE least(high, low + %(limit)s - 1) END AS high
    FROM (
        SELECT *, greatest(bottom, %(after)s::bigint + 1) AS low, least(last_seq, %(before)s::bigint - 1) AS high
        FROM head
    ) AS head
)
SELECT NULL AS id, NULL AS role, NULL AS content, NULL AS encoding, NULL AS name, NULL AS tool_calls,
    NULL AS tool_call_id, NULL AS route, NULL AS step, NULL AS event, NULL AS metadata, NULL AS reply,
    NULL::timestamptz AS created_at, low AS seq, high AS turn_seq, NULL AS commit_id,
    CASE WHEN %(after)s::bigint IS NULL THEN low > bottom ELSE high < last_seq END AS more
FROM reach
UNION ALL
SELECT message.id, role, content, encoding, name, tool_calls, tool_call_id, route, step, event, metadata, reply,
    created_at, seq, turn_seq, commit_id, NULL
FROM reach JOIN turnkeep_messages AS message ON message.namespace = reach.namespace AND message.session_id = reach.id
    AND message.incarnation = reach.incarnation AND seq BETWEEN low AND high;

-- name: create
-- A commit to a session that must not be there; over one that has expired it begins a new life, and erases the old one.
-- No row: there is one. Messages and the record of the commit follow from the row of the session, so all stand or fall
-- with it.
WITH clock AS MATERIALIZED (SELECT coalesce(%(now)s::timestamptz, clock_timestamp()) AS now),
head AS (
    INSERT INTO turnkeep_sessions AS session (namespace, id, user_id, incarnation, version, last_commit, status,
        completed_at, agent_name, current_route, current_step, last_seq, floor, last_message_at, created_at, updated_at,
        expires_at, trim_at, marks, collected_data, state)
    SELECT %(namespace)s, %(id)s, coalesce(%(claim)s, %(user_id)s), %(incarnation)s, 1, %(commit_id)s,
        coalesce(%(status)s, 'active'),
        coalesce(%(completed_at)s::timestamptz, CASE WHEN %(status)s::text = 'completed' THEN now END),
        %(agent_name)s, %(current_route)s, %(current_step)s, %(count)s, 0, CASE WHEN %(count)s > 0 THEN now END,
        now, now, now + %(ttl)s::interval, now + %(message_ttl)s::interval,
        '[[' || %(count)s || ',' || (extract(epoch FROM now + %(message_ttl)s::interval) * 1000000)::bigint || ']]',
        coalesce(%(data)s, '{}'), coalesce(%(state)s, '{}')
    FROM clock
    ON CONFLICT (namespace, id) DO UPDATE SET user_id = excluded.user_id, incarnation = excluded.incarnation,
        version = 1, last_commit = excluded.last_commit, status = excluded.status,
        completed_at = excluded.completed_at, agent_name = excluded.agent_name,
        current_route = excluded.current_route, current_step = excluded.current_step, last_seq = excluded.last_seq,
        floor = 0, last_message_at = excluded.last_message_at, created_at = excluded.created_at,
        updated_at = excluded.updated_at, expires_at = excluded.expires_at, trim_at = excluded.trim_at,
        marks = excluded.marks, collected_data = excluded.collected_data, state = excluded.state
    WHERE session.expires_at <= excluded.created_at
    RETURNING incarnation, created_at, expires_at
),
old_messages AS (
    DELETE FROM turnkeep_messages AS message USING head
    WHERE message.namespace = %(namespace)s AND message.session_id = %(id)s
        AND message.incarnation <> head.incarnation
),
old_commits AS (
    DELETE FROM turnkeep_commits AS past USING head
    WHERE past.namespace = %(namespace)s AND past.session_id = %(id)s AND past.incarnation <> head.incarnation
),
remembered AS (
    INSERT INTO turnkeep_commits (namespace, session_id, incarnation, commit_id, digest, version, created, first_seq,
        last_seq, message_count, committed_at)
    SELECT %(namespace)s, %(id)s, incarnation, %(commit_id)s, %(digest)s, 1, true,
        CASE WHEN %(count)s > 0 THEN 1 END, nullif(%(count)s, 0), %(count)s, created_at
    FROM head
),
added AS (
    INSERT INTO turnkeep_messages (namespace, session_id, incarnation, seq, turn_seq, commit_id, id, role, content,
        encoding, name, tool_calls, tool_call_id, route, step, event, metadata, reply, created_at, committed_at)
    SELECT %(namespace)s, %(id)s, incarnation, number, 1, %(commit_id)s, message.id, role, content, encoding, name,
        tool_calls, tool_call_id, route, step, event, metadata, reply, message.created_at, head.created_at
    FROM head CROSS JOIN unnest(%(ids)b, %(roles)b, %(contents)b, %(encodings)b, %(names)b, %(tool_calls)b,
        %(tool_call_ids)b, %(routes)b, %(steps)b, %(events)b, %(metadatas)b, %(replies)b, %(created)b)
        WITH ORDINALITY AS message (id, role, content, encoding, name, tool_calls, tool_call_id, route, step, event,
            metadata, reply, created_at, number)
)
SELECT incarnation, 1::bigint AS version, NULL AS old_commit, %(count)s AS last_seq, %(count)s AS message_count,
    created_at, expires_at
FROM head;

-- name: commit
-- A commit to a session that must be there, at the token if one is given. No row: it is not, or it knows the commit id.
-- `head` locks the session and sees it as it is then, even where it had to wait for another commit; what it knows of
-- commit ids is as old as the statement, so the key of the commits is the last word on them. Nobody else can add to
-- the session until this statement has ended.
WITH clock AS MATERIALIZED (SELECT coalesce(%(now)s::timestamptz, clock_timestamp()) AS now),
head AS MATERIALIZED (
    SELECT session.*, now, greatest(now, updated_at + interval '1 microsecond') AS time,
        CASE WHEN %(drop_history)s::boolean THEN last_seq ELSE greatest(floor, CASE WHEN trim_at <= now THEN (
            SELECT max((mark->>0)::bigint) FROM json_array_elements(marks::json) AS mark
            WHERE (mark->>1)::bigint <= (extract(epoch FROM now) * 1000000)::bigint
        ) END) END AS bottom
    FROM clock CROSS JOIN turnkeep_sessions AS session
    WHERE namespace = %(namespace)s AND id = %(id)s AND user_id = %(owner)s
        AND (expires_at IS NULL OR expires_at > now)
        AND (%(version)s::bigint IS NULL OR (version = %(version)s AND incarnation = %(incarnation)s
            AND last_commit = %(last_commit)s))
        AND NOT EXISTS (
            SELECT FROM turnkeep_commits AS past
            WHERE past.namespace = session.namespace AND past.session_id = session.id
                AND past.incarnation = session.incarnation AND past.commit_id = %(commit_id)s
        )
    FOR NO KEY UPDATE OF session
),
next AS MATERIALIZED (
    SELECT head.*, CASE WHEN marks IS NOT NULL OR %(message_ttl)s::interval IS NOT NULL THEN (
        WITH kept AS (
            SELECT (mark->>0)::bigint AS seq, (mark->>1)::bigint AS leaves
            FROM json_array_elements(marks::json) AS mark
            WHERE (mark->>0)::bigint > bottom
        ),
        every AS (
            SELECT seq, leaves FROM kept
            UNION ALL
            SELECT last_seq + %(count)s, greatest(
                (extract(epoch FROM now + %(message_ttl)s::interval) * 1000000)::bigint, (SELECT max(leaves) FROM kept))
            WHERE %(message_ttl)s::interval IS NOT NULL
        ),
        near AS (
            SELECT seq, leaves, lead(leaves) OVER (ORDER BY seq) - leaves AS gap, count(*) OVER () AS total FROM every
        )
        -- Beyond 64 marks the two that lie closest become one, at the later time of the two.
        SELECT '[' || string_agg('[' || seq || ',' || leaves || ']', ',' ORDER BY seq) || ']'
        FROM (SELECT *, row_number() OVER (ORDER BY gap, seq) AS place FROM near) AS placed
        WHERE total <= 64 OR place > 1
    ) END AS next_marks
    FROM head
),
changed AS (
    UPDATE turnkeep_sessions AS session SET
        user_id = coalesce(%(claim)s, next.user_id), version = next.version + 1, last_commit = %(commit_id)s,
        status = coalesce(%(status)s, next.status),
        completed_at = CASE WHEN %(status)s::text IS NULL THEN next.completed_at
            ELSE coalesce(%(completed_at)s::timestamptz, CASE WHEN %(status)s::text = 'completed' THEN time END) END,
        agent_name = CASE WHEN %(sets_agent_name)s THEN %(agent_name)s ELSE next.agent_name END,
        current_route = CASE WHEN %(sets_current_route)s THEN %(current_route)s ELSE next.current_route END,
        current_step = CASE WHEN %(sets_current_step)s THEN %(current_step)s ELSE next.current_step END,
        last_seq = next.last_seq + %(count)s, floor = bottom, updated_at = time, expires_at = now + %(ttl)s::interval,
        last_message_at = CASE WHEN %(count)s > 0 THEN time ELSE next.last_message_at END, marks = next_marks,
        -- Messages that a concurrent commit added while this one waited are below the floor but cannot be seen from
        -- here: the sweep erases them.
        trim_at = CASE WHEN %(drop_history)s AND %(version)s::bigint IS NULL THEN now ELSE
            timestamptz 'epoch' + (next_marks::json->0->>1)::bigint * interval '1 microsecond' END,
        collected_data = coalesce(%(data)s, session.collected_data), state = coalesce(%(state)s, session.state)
    FROM next
    WHERE session.namespace = next.namespace AND session.id = next.id
    RETURNING session.incarnation, session.version, next.last_commit AS old_commit, next.last_seq AS old_seq,
        session.last_seq, session.floor, next.floor AS old_floor, session.updated_at,
        session.expires_at
),
erased AS (
    DELETE FROM turnkeep_messages AS message USING changed
    WHERE changed.floor > old_floor AND message.namespace = %(namespace)s AND message.session_id = %(id)s
        AND message.incarnation = changed.incarnation AND seq <= changed.floor
),
remembered AS (
    INSERT INTO turnkeep_commits (namespace, session_id, incarnation, commit_id, digest, version, created, first_seq,
        last_seq, message_count, committed_at)
    SELECT %(namespace)s, %(id)s, incarnation, %(commit_id)s, %(digest)s, version, false,
        CASE WHEN %(count)s > 0 THEN old_seq + 1 END, CASE WHEN %(count)s > 0 THEN last_seq END, last_seq - floor,
        updated_at
    FROM changed
),
added AS (
    INSERT INTO turnkeep_messages (namespace, session_id, incarnation, seq, turn_seq, commit_id, id, role, content,
        encoding, name, tool_calls, tool_call_id, route, step, event, metadata, reply, created_at, committed_at)
    SELECT %(namespace)s, %(id)s, incarnation, old_seq + number, old_seq + 1, %(commit_id)s, message.id, role, content,
        encoding, name, tool_calls, tool_call_id, route, step, event, metadata, reply, created_at, updated_at
    FROM changed CROSS JOIN unnest(%(ids)b, %(roles)b, %(contents)b, %(encodings)b, %(names)b, %(tool_calls)b,
        %(tool_call_ids)b, %(routes)b, %(steps)b, %(events)b, %(metadatas)b, %(replies)b, %(created)b)
        WITH ORDINALITY AS message (id, role, content, encoding, name, tool_calls, tool_call_id, route, step, event,
            metadata, reply, created_at, number)
)
SELECT incarnation, version, old_commit, last_seq, last_seq - floor AS message_count, updated_at, expires_at
FROM changed;

-- name: copy_messages
-- Many messages, in the transaction of the commit or the create that counted them.
COPY turnkeep_messages (namespace, session_id, incarnation, seq, turn_seq, commit_id, id, role, content, encoding, name,
    tool_calls, tool_call_id, route, step, event, metadata, reply, created_at, committed_at)
FROM STDIN (FORMAT binary);

-- name: delete
-- Removes a session, at the token if one is given; messages and commits go with it by their foreign keys.
DELETE FROM turnkeep_sessions
WHERE namespace = %(namespace)s AND id = %(id)s AND user_id = %(owner)s
    AND (expires_at IS NULL OR expires_at > coalesce(%(now)s::timestamptz, clock_timestamp()))
    AND (%(version)s::bigint IS NULL OR (version = %(version)s AND incarnation = %(incarnation)s
        AND last_commit = %(last_commit)s))
RETURNING id;

-- name: delete_owner
-- Removes every session of an owner; counts those that had not expired, and their messages.
WITH clock AS MATERIALIZED (SELECT coalesce(%(now)s::timestamptz, clock_timestamp()) AS now),
gone AS (
    DELETE FROM turnkeep_sessions USING clock
    WHERE namespace = %(namespace)s AND user_id = %(owner)s
    RETURNING expires_at IS NULL OR expires_at > now AS living, last_seq - greatest(floor, CASE WHEN trim_at <= now THEN (
        SELECT max((mark->>0)::bigint) FROM json_array_elements(marks::json) AS mark
        WHERE (mark->>1)::bigint <= (extract(epoch FROM now) * 1000000)::bigint
    ) END) AS messages
)
SELECT count(*) AS sessions, coalesce(sum(messages), 0)::bigint AS messages FROM gone WHERE living;

-- name: list_status
-- Heads in one status, last committed to first: a stretch of an index.
WITH clock AS MATERIALIZED (SELECT coalesce(%(now)s::timestamptz, clock_timestamp()) AS now)
SELECT namespace, id, user_id, incarnation, version, last_commit, status, agent_name, current_route, current_step,
    last_seq, floor, last_message_at, completed_at, created_at, updated_at, expires_at,
    CASE WHEN trim_at <= now THEN marks END, now
FROM clock CROSS JOIN turnkeep_sessions
WHERE namespace = %(namespace)s AND user_id = %(owner)s AND status = %(status)s
    AND updated_at < coalesce(%(before)s::timestamptz, now - %(age)s::interval, 'infinity')
    AND updated_at <= coalesce(%(last)s::timestamptz, 'infinity')
    AND (%(last)s::timestamptz IS NULL OR updated_at < %(last)s::timestamptz OR id > %(last_id)s)
    AND (%(agent_name)s::text IS NULL OR agent_name = %(agent_name)s)
    AND (%(route)s::text IS NULL OR current_route = %(route)s)
    AND (expires_at IS NULL OR expires_at > now)
ORDER BY updated_at DESC, id
LIMIT %(limit)s;

-- name: list_activity
-- The same in every status: a walk of the index for each, which takes the server longer to plan.
WITH clock AS MATERIALIZED (SELECT coalesce(%(now)s::timestamptz, clock_timestamp()) AS now)
SELECT namespace, id, user_id, incarnation, version, last_commit, status, agent_name, current_route, current_step,
    last_seq, floor, last_message_at, completed_at, created_at, updated_at, expires_at,
    CASE WHEN trim_at <= now THEN marks END, now
FROM clock CROSS JOIN unnest(%(statuses)s::text[]) AS every (one) CROSS JOIN LATERAL (
    SELECT * FROM turnkeep_sessions
    WHERE namespace = %(namespace)s AND user_id = %(owner)s AND status = one
        AND updated_at < coalesce(%(before)s::timestamptz, now - %(age)s::interval, 'infinity')
        AND updated_at <= coalesce(%(last)s::timestamptz, 'infinity')
        AND (%(last)s::timestamptz IS NULL OR updated_at < %(last)s::timestamptz OR id > %(last_id)s)
        AND (%(agent_name)s::text IS NULL OR agent_name = %(agent_name)s)
        AND (%(route)s::text IS NULL OR current_route = %(route)s)
        AND (expires_at IS NULL OR expires_at > now)
    ORDER BY updated_at DESC, id
    LIMIT %(limit)s
) AS session
ORDER BY updated_at DESC, id
LIMIT %(limit)s;

-- name: list_created
-- Heads, oldest first.
WITH clock AS MATERIALIZED (SELECT coalesce(%(now)s::timestamptz, clock_timestamp()) AS now)
SELECT namespace, id, user_id, incarnation, version, last_commit, status, agent_name, current_route, current_step,
    last_seq, floor, last_message_at, completed_at, created_at, updated_at, expires_at,
    CASE WHEN trim_at <= now THEN marks END, now
FROM clock CROSS JOIN LATERAL (
    SELECT * FROM turnkeep_sessions
    WHERE namespace = %(namespace)s AND user_id = %(owner)s AND status = ANY(%(statuses)s::text[])
        AND (created_at, id) > (coalesce(%(last)s::timestamptz, '-infinity'), coalesce(%(last_id)s::text, ''))
        AND updated_at < coalesce(%(before)s::timestamptz, now - %(age)s::interval, 'infinity')
        AND (%(agent_name)s::text IS NULL OR agent_name = %(agent_name)s)
        AND (%(route)s::text IS NULL OR current_route = %(route)s)
        AND (expires_at IS NULL OR expires_at > now)
    ORDER BY created_at, id
    LIMIT %(limit)s
) AS session
ORDER BY created_at, id;

-- name: sweep_expired
-- Removes sessions that have expired, in any namespace; those that somebody holds are left for the next time.
WITH clock AS MATERIALIZED (SELECT coalesce(%(now)s::timestamptz, clock_timestamp()) AS now),
expired AS (
    SELECT namespace, id, row_number() OVER () AS place FROM (
        SELECT namespace, id FROM turnkeep_sessions
        WHERE expires_at <= (SELECT now FROM clock)
        ORDER BY expires_at
        LIMIT %(limit)s + 1
        FOR UPDATE SKIP LOCKED
    ) AS locked
),
gone AS (
    DELETE FROM turnkeep_sessions AS session USING expired
    WHERE session.namespace = expired.namespace AND session.id = expired.id AND place <= %(limit)s
    RETURNING session.last_seq - session.floor AS messages
)
SELECT (SELECT count(*) FROM gone) AS sessions, (SELECT coalesce(sum(messages), 0)::bigint FROM gone) AS messages,
    (SELECT count(*) FROM expired) > %(limit)s AS more;

-- name: list_trimmable
-- Sessions whose oldest messages have passed their age.
WITH clock AS MATERIALIZED (SELECT coalesce(%(now)s::timestamptz, clock_timestamp()) AS now)
SELECT namespace, id, incarnation, version, floor, marks, (SELECT now FROM clock) AS now
FROM turnkeep_sessions
WHERE trim_at <= (SELECT now FROM clock)
ORDER BY trim_at
LIMIT %(limit)s;

-- name: trim
-- Stores floors that marks have moved, where nobody committed since, and erases what is below them.
WITH moved AS (
    UPDATE turnkeep_sessions AS session SET floor = given.floor, marks = given.marks, trim_at = given.trim_at
    FROM unnest(%(namespaces)b::text[], %(ids)b::text[], %(incarnations)b::text[], %(versions)s::bigint[],
        %(floors)s::bigint[], %(marks)b::text[], %(trim_ats)b::timestamptz[])
        AS given (namespace, id, incarnation, version, floor, marks, trim_at)
    WHERE session.namespace = given.namespace AND session.id = given.id AND session.incarnation = given.incarnation
        AND session.version = given.version
    RETURNING session.namespace, session.id, session.incarnation, session.floor
),
erased AS (
    DELETE FROM turnkeep_messages AS message USING moved
    WHERE message.namespace = moved.namespace AND message.session_id = moved.id
        AND message.incarnation = moved.incarnation AND seq <= moved.floor
    RETURNING seq
)
SELECT count(*) AS messages FROM erased;

-- name: search
-- Messages that match, best first. `tsquery` becomes what the search language makes of it, where one was named.
-- `found` is a plan of its own: with the limit in sight the planner would read the table through, hoping to stop early.
-- `OFFSET 0` has the session of each message looked up, where otherwise all sessions would be read, as the planner
-- takes every word for a common one; for one owner, whose few sessions may be where to begin, it is left out.
-- `IS NOT DISTINCT FROM`: with `=` the planner takes id and incarnation for independent and a session for a few messages,
-- and reads it through instead of asking the index of words. For a phrase that is right: its every candidate is read.
-- The page is fetched from where its messages were found: the same statement sees the same rows.
WITH clock AS MATERIALIZED (SELECT coalesce(%(now)s::timestamptz, clock_timestamp()) AS now),
found AS MATERIALIZED (
    SELECT message.tableoid AS part, message.ctid AS place, message.session_id, message.seq,
        ts_rank(words, %(ranked)s::tsquery, 1)::float8 AS score
    FROM clock CROSS JOIN turnkeep_messages AS message CROSS JOIN LATERAL (
        SELECT floor, trim_at, marks FROM turnkeep_sessions AS session
        WHERE session.namespace = message.namespace AND session.id = message.session_id
            AND session.incarnation IS NOT DISTINCT FROM message.incarnation AND user_id = %(owner)s
            AND (expires_at IS NULL OR expires_at > now)
        OFFSET 0
    ) AS session
    WHERE words @@ %(terms)s::tsquery AND message.namespace = %(namespace)s
        AND seq > greatest(floor, CASE WHEN trim_at <= now THEN (
            SELECT max((mark->>0)::bigint) FROM json_array_elements(marks::json) AS mark
            WHERE (mark->>1)::bigint <= (extract(epoch FROM now) * 1000000)::bigint
        ) END)
        AND (%(session_id)s::text IS NULL OR message.session_id = %(session_id)s)
        AND (%(role)s::text IS NULL OR role = %(role)s)
        AND (%(since)s::timestamptz IS NULL OR message.created_at >= %(since)s)
        AND (%(until)s::timestamptz IS NULL OR message.created_at < %(until)s)
),
page AS MATERIALIZED (
    SELECT * FROM found
    WHERE %(score)s::float8 IS NULL OR score < %(score)s
        OR (score = %(score)s AND (session_id, seq) > (%(last_id)s, %(last_seq)s))
    ORDER BY score DESC, session_id, seq
    LIMIT %(limit)s
)
SELECT id, role, content, encoding, name, tool_calls, tool_call_id, route, step, event, metadata, reply, created_at,
    message.seq, turn_seq, commit_id, message.session_id, score
FROM page JOIN turnkeep_messages AS message ON message.ctid = place AND message.tableoid = part
ORDER BY score DESC, message.session_id, message.seq;

-- name: count
-- Counts per status, agent, route and day of creation over living sessions.
WITH clock AS MATERIALIZED (SELECT coalesce(%(now)s::timestamptz, clock_timestamp()) AS now),
living AS (
    SELECT session.*, greatest(floor, CASE WHEN trim_at <= now THEN (
        SELECT max((mark->>0)::bigint) FROM json_array_elements(marks::json) AS mark
        WHERE (mark->>1)::bigint <= (extract(epoch FROM now) * 1000000)::bigint
    ) END) AS bottom
    FROM clock CROSS JOIN turnkeep_sessions AS session
    WHERE namespace = %(namespace)s AND user_id = %(owner)s AND (expires_at IS NULL OR expires_at > now)
)
SELECT status, agent_name, current_route, (created_at AT TIME ZONE 'UTC')::date AS day, count(*) AS sessions,
    sum(last_seq - bottom)::bigint AS messages,
    sum(octet_length(collected_data) + octet_length(state) + coalesce((
        SELECT sum(octet_length(content) + coalesce(octet_length(tool_calls), 0) + coalesce(octet_length(event), 0)
            + coalesce(octet_length(metadata), 0))
        FROM turnkeep_messages AS message
        WHERE message.namespace = living.namespace AND message.session_id = living.id
            AND message.incarnation = living.incarnation AND message.seq > living.bottom
    ), 0))::bigint AS bytes,
    min(created_at) AS oldest, max(updated_at) AS newest
FROM living
GROUP BY status, agent_name, current_route, day;
