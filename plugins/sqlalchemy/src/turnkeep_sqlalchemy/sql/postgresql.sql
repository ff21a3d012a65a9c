-- What PostgreSQL does in one statement, written for it: a load with messages, and commits. `turnkeep-postgres`
-- has the same, for default column names.
--
-- {sessions} is a table, {sessions.user_id} the column that holds a field; a line that names a column which the table
-- does not have is left out, so such a column has lines of its own. Parameters are :names. READ COMMITTED is enough: a
-- row that was locked is read as it is then, other rows as they were when the statement began.

-- name: load
-- A session as one version of everything: a row with its head, its documents and what it remembers of a commit; then, in
-- no order, a row for each message of the window (null: all of them), widened to begin where a commit began.
WITH head AS MATERIALIZED (
    SELECT session.{sessions.user_id} AS user_id, session.{sessions.agent_name} AS agent_name,
        session.{sessions.status} AS status, session.{sessions.current_route} AS current_route,
        session.{sessions.current_step} AS current_step,
        session.{sessions.last_message_at} AT TIME ZONE 'UTC' AS last_message_at,
        session.{sessions.completed_at} AT TIME ZONE 'UTC' AS completed_at,
        session.{sessions.created_at} AT TIME ZONE 'UTC' AS created_at,
        session.{sessions.updated_at} AT TIME ZONE 'UTC' AS updated_at,
        session.{sessions.expires_at} AT TIME ZONE 'UTC' AS expires_at,
        session.{sessions.incarnation} AS incarnation, session.{sessions.version} AS version,
        session.{sessions.last_commit} AS last_commit, session.{sessions.last_seq} AS last_seq,
        session.{sessions.floor} AS floor, session.{sessions.marks} AS marks, session.{sessions.id} AS id,
        session.{sessions.collected_data} AS data, session.{sessions.state} AS state,
        past.{commits.commit_id} AS past_commit, past.{commits.digest} AS digest,
        past.{commits.version} AS past_version, past.{commits.created} AS created,
        past.{commits.first_seq} AS past_first, past.{commits.last_seq} AS past_last,
        past.{commits.message_count} AS past_count, past.{commits.committed_at} AT TIME ZONE 'UTC' AS past_time,
        greatest(session.{sessions.floor}, session.{sessions.last_seq} -
            coalesce(CAST(:window AS bigint), session.{sessions.last_seq})) + 1 AS low
    FROM {sessions} AS session
    LEFT JOIN {commits} AS past ON past.{commits.session_id} = CAST(:id AS text)
        AND past.{commits.namespace} = session.{sessions.namespace}
        AND past.{commits.incarnation} = session.{sessions.incarnation}
        AND past.{commits.commit_id} = CAST(:commit_id AS text)
    WHERE session.{sessions.id} = CAST(:id AS text)
        AND session.{sessions.namespace} = CAST(:namespace AS text)
        AND (CAST(:anyone AS boolean) OR session.{sessions.user_id} IS NOT DISTINCT FROM CAST(:owner AS text))
),
reach AS MATERIALIZED (
    SELECT incarnation, greatest(floor + 1, low - CAST(:widen AS bigint), least(low, (
        SELECT message.{messages.turn_seq} FROM {messages} AS message
        WHERE message.{messages.session_id} = CAST(:id AS text)
            AND message.{messages.namespace} = CAST(:namespace AS text)
            AND message.{messages.incarnation} = head.incarnation AND message.{messages.seq} = head.low
    ))) AS low FROM head
)
SELECT NULL AS message_id, NULL AS role, NULL AS content, NULL AS encoding, NULL AS name, NULL AS tool_calls,
    NULL AS tool_call_id, NULL AS route, NULL AS step, NULL AS event, NULL AS metadata, NULL AS reply,
    CAST(NULL AS timestamp) AS said_at, CAST(NULL AS bigint) AS seq, CAST(NULL AS bigint) AS turn_seq,
    NULL AS commit_id, user_id, agent_name, status, current_route, current_step, last_message_at, completed_at,
    created_at, updated_at, expires_at, incarnation, version, last_commit, last_seq, floor, marks, NULL, id, data,
    state, clock_timestamp() AT TIME ZONE 'UTC', past_commit, digest, past_version, created, past_first, past_last,
    past_count, past_time
FROM head
UNION ALL
SELECT message.{messages.id}, message.{messages.role}, message.{messages.content}, message.{messages.encoding},
    message.{messages.name}, message.{messages.tool_calls}, message.{messages.tool_call_id}, message.{messages.route},
    message.{messages.step}, message.{messages.event}, message.{messages.metadata}, message.{messages.reply},
    message.{messages.created_at} AT TIME ZONE 'UTC', message.{messages.seq}, message.{messages.turn_seq},
    message.{messages.commit_id}, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM reach CROSS JOIN LATERAL (
    SELECT * FROM {messages} AS message
    WHERE message.{messages.session_id} = CAST(:id AS text)
        AND message.{messages.namespace} = CAST(:namespace AS text)
        AND message.{messages.incarnation} = reach.incarnation AND message.{messages.seq} >= reach.low
) AS message;

-- name: create
-- A commit to a session that must not be there; over one that has expired it begins a new life, and erases the old one.
-- No row: there is one. Messages and the record of the commit follow from the row of the session.
WITH clock AS MATERIALIZED (SELECT coalesce(CAST(:now AS timestamptz), clock_timestamp()) AS now),
head AS (
    INSERT INTO {sessions} AS session (
        {sessions.namespace},
        {sessions.message_count},
        {sessions.id}, {sessions.user_id}, {sessions.incarnation}, {sessions.version}, {sessions.last_commit},
        {sessions.status}, {sessions.completed_at}, {sessions.agent_name}, {sessions.current_route},
        {sessions.current_step}, {sessions.last_seq}, {sessions.floor}, {sessions.last_message_at},
        {sessions.created_at}, {sessions.updated_at}, {sessions.expires_at}, {sessions.trim_at}, {sessions.marks},
        {sessions.collected_data}, {sessions.state})
    SELECT
        CAST(:namespace AS text), /* {sessions.namespace} */
        CAST(:count AS bigint), /* {sessions.message_count} */
        CAST(:id AS text), CAST(:user_id AS text), CAST(:incarnation AS text), 1, CAST(:commit_id AS text),
        coalesce(CAST(:status AS text), 'active'),
        coalesce(CAST(:completed_at AS timestamptz), CASE WHEN CAST(:status AS text) = 'completed' THEN now END),
        CAST(:agent_name AS text), CAST(:current_route AS text), CAST(:current_step AS text),
        CAST(:count AS bigint), 0, CASE WHEN CAST(:count AS bigint) > 0 THEN now END,
        now, now, now + CAST(:ttl AS interval),
        CASE WHEN CAST(:count AS bigint) > 0 THEN now + CAST(:message_ttl AS interval) END,
        CASE WHEN CAST(:count AS bigint) > 0 THEN '[[' || CAST(:count AS bigint) || ',' ||
            CAST(extract(epoch FROM now + CAST(:message_ttl AS interval)) * 1000000 AS bigint) || ']]' END,
        coalesce(CAST(:data AS text), '{}'), coalesce(CAST(:state AS text), '{}')
    FROM clock
    ON CONFLICT (
        {sessions.namespace},
        {sessions.id}) DO UPDATE SET
        {sessions.message_count} = excluded.{sessions.message_count},
        {sessions.user_id} = excluded.{sessions.user_id}, {sessions.incarnation} = excluded.{sessions.incarnation},
        {sessions.version} = 1, {sessions.last_commit} = excluded.{sessions.last_commit},
        {sessions.status} = excluded.{sessions.status}, {sessions.completed_at} = excluded.{sessions.completed_at},
        {sessions.agent_name} = excluded.{sessions.agent_name},
        {sessions.current_route} = excluded.{sessions.current_route},
        {sessions.current_step} = excluded.{sessions.current_step}, {sessions.last_seq} = excluded.{sessions.last_seq},
        {sessions.floor} = 0, {sessions.last_message_at} = excluded.{sessions.last_message_at},
        {sessions.created_at} = excluded.{sessions.created_at}, {sessions.updated_at} = excluded.{sessions.updated_at},
        {sessions.expires_at} = excluded.{sessions.expires_at}, {sessions.trim_at} = excluded.{sessions.trim_at},
        {sessions.marks} = excluded.{sessions.marks}, {sessions.collected_data} = excluded.{sessions.collected_data},
        {sessions.state} = excluded.{sessions.state}
    WHERE session.{sessions.expires_at} <= excluded.{sessions.created_at}
    RETURNING session.{sessions.incarnation} AS incarnation, session.{sessions.created_at} AS created_at,
        session.{sessions.expires_at} AS expires_at
),
old_messages AS (
    DELETE FROM {messages} AS message USING head
    WHERE message.{messages.session_id} = CAST(:id AS text) AND message.{messages.incarnation} <> head.incarnation
        AND message.{messages.namespace} = CAST(:namespace AS text)
),
old_commits AS (
    DELETE FROM {commits} AS past USING head
    WHERE past.{commits.namespace} = CAST(:namespace AS text) AND past.{commits.session_id} = CAST(:id AS text)
        AND past.{commits.incarnation} <> head.incarnation
),
remembered AS (
    INSERT INTO {commits} (
        {commits.namespace}, {commits.session_id}, {commits.incarnation}, {commits.commit_id}, {commits.digest},
        {commits.version}, {commits.created}, {commits.first_seq}, {commits.last_seq}, {commits.message_count},
        {commits.committed_at})
    SELECT CAST(:namespace AS text), CAST(:id AS text), incarnation, CAST(:commit_id AS text), CAST(:digest AS text),
        1, true, CASE WHEN CAST(:count AS bigint) > 0 THEN 1 END, nullif(CAST(:count AS bigint), 0),
        CAST(:count AS bigint), created_at
    FROM head
),
added AS (
    INSERT INTO {messages} (
        {messages.namespace},
        {messages.session_id}, {messages.incarnation}, {messages.seq}, {messages.turn_seq}, {messages.commit_id},
        {messages.id}, {messages.role}, {messages.content}, {messages.encoding}, {messages.name},
        {messages.tool_calls}, {messages.tool_call_id}, {messages.route}, {messages.step}, {messages.event},
        {messages.metadata}, {messages.reply}, {messages.created_at}, {messages.committed_at})
    SELECT
        CAST(:namespace AS text), /* {messages.namespace} */
        CAST(:id AS text), head.incarnation, message.number, 1, CAST(:commit_id AS text), message.id, message.role,
        message.content, message.encoding, message.name, message.tool_calls, message.tool_call_id, message.route,
        message.step, message.event, message.metadata, message.reply, message.created_at, head.created_at
    FROM head CROSS JOIN unnest(CAST(:ids AS text[]), CAST(:roles AS text[]), CAST(:contents AS text[]),
        CAST(:encodings AS text[]), CAST(:names AS text[]), CAST(:tool_calls AS text[]),
        CAST(:tool_call_ids AS text[]), CAST(:routes AS text[]), CAST(:steps AS text[]), CAST(:events AS text[]),
        CAST(:metadatas AS text[]), CAST(:replies AS text[]), CAST(:created AS timestamptz[]))
        WITH ORDINALITY AS message (id, role, content, encoding, name, tool_calls, tool_call_id, route, step, event,
            metadata, reply, created_at, number)
)
SELECT incarnation, CAST(1 AS bigint) AS version, true AS contiguous, CAST(:count AS bigint) AS last_seq,
    CAST(:count AS bigint) AS message_count, created_at AT TIME ZONE 'UTC' AS time,
    expires_at AT TIME ZONE 'UTC' AS expires_at
FROM head;

-- name: commit
-- A commit to a session that must be there, at the token if one is given. No row: it is not, or it knows the commit id.
-- `head` locks the session and sees it as it is then, even where it had to wait for another commit; what it knows of
-- commit ids is as old as the statement, so the key of the commits is the last word on them. Nobody else can add to
-- the session until this statement has ended.
WITH clock AS MATERIALIZED (SELECT coalesce(CAST(:now AS timestamptz), clock_timestamp()) AS now),
head AS MATERIALIZED (
    SELECT session.{sessions.id} AS id, session.{sessions.user_id} AS user_id,
        session.{sessions.incarnation} AS incarnation, session.{sessions.version} AS version,
        session.{sessions.last_commit} AS last_commit, session.{sessions.status} AS status,
        session.{sessions.completed_at} AS completed_at, session.{sessions.agent_name} AS agent_name,
        session.{sessions.current_route} AS current_route, session.{sessions.current_step} AS current_step,
        session.{sessions.last_seq} AS last_seq, session.{sessions.floor} AS floor,
        session.{sessions.last_message_at} AS last_message_at, session.{sessions.marks} AS marks, now,
        greatest(now, session.{sessions.updated_at} + interval '1 microsecond') AS time,
        CASE WHEN CAST(:drop_history AS boolean) THEN session.{sessions.last_seq}
            ELSE greatest(session.{sessions.floor}, CASE WHEN session.{sessions.trim_at} <= now THEN (
                SELECT max(CAST(mark->>0 AS bigint))
                FROM json_array_elements(CAST(session.{sessions.marks} AS json)) AS mark
                WHERE CAST(mark->>1 AS bigint) <= CAST(extract(epoch FROM now) * 1000000 AS bigint)
            ) END) END AS bottom
    FROM clock CROSS JOIN {sessions} AS session
    WHERE session.{sessions.id} = CAST(:id AS text)
        AND session.{sessions.namespace} = CAST(:namespace AS text)
        AND (CAST(:anyone AS boolean) OR session.{sessions.user_id} IS NOT DISTINCT FROM CAST(:owner AS text))
        AND (session.{sessions.expires_at} IS NULL OR session.{sessions.expires_at} > now)
        AND (CAST(:version AS bigint) IS NULL OR (session.{sessions.version} = CAST(:version AS bigint)
            AND session.{sessions.incarnation} = CAST(:incarnation AS text)
            AND session.{sessions.last_commit} = CAST(:seen_commit AS text)))
        AND NOT EXISTS (
            SELECT FROM {commits} AS past
            WHERE past.{commits.session_id} = CAST(:id AS text)
                AND past.{commits.namespace} = CAST(:namespace AS text)
                AND past.{commits.incarnation} = session.{sessions.incarnation}
                AND past.{commits.commit_id} = CAST(:commit_id AS text)
        )
    FOR NO KEY UPDATE OF session
),
next AS MATERIALIZED (
    SELECT head.*, CASE WHEN marks IS NULL AND (CAST(:message_ttl AS interval) IS NULL OR CAST(:count AS bigint) = 0)
        THEN NULL ELSE (
        WITH kept AS (
            SELECT CAST(mark->>0 AS bigint) AS seq, CAST(mark->>1 AS bigint) AS leaves
            FROM json_array_elements(CAST(marks AS json)) AS mark
            WHERE CAST(mark->>0 AS bigint) > bottom
        ),
        every AS (
            SELECT seq, leaves FROM kept
            UNION ALL
            SELECT last_seq + CAST(:count AS bigint), greatest(
                CAST(extract(epoch FROM now + CAST(:message_ttl AS interval)) * 1000000 AS bigint),
                (SELECT max(leaves) FROM kept))
            WHERE CAST(:message_ttl AS interval) IS NOT NULL AND CAST(:count AS bigint) > 0
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
    UPDATE {sessions} AS session SET
        {sessions.message_count} = next.last_seq + CAST(:count AS bigint) - next.bottom,
        {sessions.user_id} = coalesce(CAST(:claim AS text), next.user_id), {sessions.version} = next.version + 1,
        {sessions.last_commit} = CAST(:commit_id AS text),
        {sessions.status} = coalesce(CAST(:status AS text), next.status),
        {sessions.completed_at} = CASE WHEN CAST(:status AS text) IS NULL THEN next.completed_at
            ELSE coalesce(CAST(:completed_at AS timestamptz),
                CASE WHEN CAST(:status AS text) = 'completed' THEN next.time END) END,
        {sessions.agent_name} = CASE WHEN CAST(:sets_agent_name AS boolean) THEN CAST(:agent_name AS text)
            ELSE next.agent_name END,
        {sessions.current_route} = CASE WHEN CAST(:sets_current_route AS boolean) THEN CAST(:current_route AS text)
            ELSE next.current_route END,
        {sessions.current_step} = CASE WHEN CAST(:sets_current_step AS boolean) THEN CAST(:current_step AS text)
            ELSE next.current_step END,
        {sessions.last_seq} = next.last_seq + CAST(:count AS bigint), {sessions.floor} = next.bottom,
        {sessions.updated_at} = next.time, {sessions.expires_at} = next.now + CAST(:ttl AS interval),
        {sessions.last_message_at} = CASE WHEN CAST(:count AS bigint) > 0 THEN next.time ELSE next.last_message_at END,
        {sessions.marks} = next.next_marks,
        -- Messages that a concurrent commit added while this one waited are below the floor but cannot be seen from
        -- here: the sweep erases them.
        {sessions.trim_at} = CASE WHEN CAST(:drop_history AS boolean) AND CAST(:version AS bigint) IS NULL
            THEN next.now ELSE timestamptz 'epoch'
                + CAST(CAST(next.next_marks AS json)->0->>1 AS bigint) * interval '1 microsecond' END,
        {sessions.collected_data} = coalesce(CAST(:data AS text), session.{sessions.collected_data}),
        {sessions.state} = coalesce(CAST(:state AS text), session.{sessions.state})
    FROM next
    WHERE session.{sessions.id} = next.id
        AND session.{sessions.namespace} = CAST(:namespace AS text)
    RETURNING next.incarnation, next.version, next.last_commit, next.last_seq, next.bottom AS floor,
        next.floor AS old_floor, next.time, session.{sessions.expires_at} AS expires_at
),
erased AS (
    DELETE FROM {messages} AS message USING changed
    WHERE changed.floor > changed.old_floor AND message.{messages.session_id} = CAST(:id AS text)
        AND message.{messages.namespace} = CAST(:namespace AS text)
        AND message.{messages.incarnation} = changed.incarnation AND message.{messages.seq} <= changed.floor
),

-- name: turn
-- The same for most commits: those that drop no history and give their messages no time to live, to a session none of
-- whose messages has one. The server plans it sooner; and of 4,096 bytes at most, psycopg remembers how to send it.
WITH head AS (
    SELECT s.{sessions.id} AS id, s.{sessions.incarnation} AS incarnation, s.{sessions.version} AS version,
        s.{sessions.last_commit} AS last_commit, s.{sessions.last_seq} AS last_seq, s.{sessions.floor} AS floor, now,
        greatest(now, s.{sessions.updated_at} + interval '1 us') AS time
    FROM (SELECT coalesce(CAST(:now AS timestamptz), clock_timestamp()) AS now OFFSET 0) AS clock
    CROSS JOIN {sessions} AS s
    WHERE s.{sessions.id} = CAST(:id AS text)
        AND s.{sessions.namespace} = CAST(:namespace AS text)
        AND (CAST(:anyone AS boolean) OR s.{sessions.user_id} IS NOT DISTINCT FROM CAST(:owner AS text))
        AND (s.{sessions.expires_at} IS NULL OR s.{sessions.expires_at} > now) AND s.{sessions.marks} IS NULL
        AND (CAST(:version AS bigint) IS NULL OR (s.{sessions.version} = :version
            AND s.{sessions.incarnation} = CAST(:incarnation AS text)
            AND s.{sessions.last_commit} = CAST(:seen_commit AS text)))
        AND NOT EXISTS (
            SELECT FROM {commits} AS p
            WHERE p.{commits.session_id} = :id
                AND p.{commits.namespace} = :namespace
                AND p.{commits.incarnation} = s.{sessions.incarnation}
                AND p.{commits.commit_id} = CAST(:commit_id AS text)
        )
    FOR NO KEY UPDATE OF s
),
changed AS (
    UPDATE {sessions} AS s SET
        {sessions.message_count} = head.last_seq + CAST(:count AS bigint) - head.floor,
        {sessions.user_id} = coalesce(CAST(:claim AS text), s.{sessions.user_id}),
        {sessions.version} = head.version + 1, {sessions.last_commit} = :commit_id,
        {sessions.status} = coalesce(CAST(:status AS text), s.{sessions.status}),
        {sessions.completed_at} = CASE WHEN :status IS NULL THEN s.{sessions.completed_at}
            ELSE coalesce(CAST(:completed_at AS timestamptz), CASE WHEN :status = 'completed' THEN time END) END,
        {sessions.agent_name} = CASE WHEN CAST(:sets_agent_name AS boolean) THEN CAST(:agent_name AS text)
            ELSE s.{sessions.agent_name} END,
        {sessions.current_route} = CASE WHEN CAST(:sets_current_route AS boolean) THEN CAST(:current_route AS text)
            ELSE s.{sessions.current_route} END,
        {sessions.current_step} = CASE WHEN CAST(:sets_current_step AS boolean) THEN CAST(:current_step AS text)
            ELSE s.{sessions.current_step} END,
        {sessions.last_seq} = head.last_seq + CAST(:count AS bigint), {sessions.updated_at} = time,
        {sessions.expires_at} = now + CAST(:ttl AS interval), {sessions.trim_at} = NULL,
        {sessions.last_message_at} = CASE WHEN :count > 0 THEN time ELSE s.{sessions.last_message_at} END,
        {sessions.collected_data} = coalesce(CAST(:data AS text), s.{sessions.collected_data}),
        {sessions.state} = coalesce(CAST(:state AS text), s.{sessions.state})
    FROM head
    WHERE s.{sessions.id} = head.id
        AND s.{sessions.namespace} = :namespace
    RETURNING head.*, s.{sessions.expires_at} AS expires_at
),

-- name: recorded
-- How both ways to commit end: what `changed` did to a session as it gives it is remembered under the commit id, and
-- the messages follow.
remembered AS (
    INSERT INTO {commits} (
        {commits.namespace}, {commits.session_id}, {commits.incarnation}, {commits.commit_id}, {commits.digest},
        {commits.version}, {commits.created}, {commits.first_seq}, {commits.last_seq}, {commits.message_count},
        {commits.committed_at})
    SELECT CAST(:namespace AS text), :id, incarnation, :commit_id, CAST(:digest AS text), version + 1, false,
        CASE WHEN :count > 0 THEN last_seq + 1 END, nullif(last_seq + :count, last_seq), last_seq + :count - floor, time
    FROM changed
),
added AS (
    INSERT INTO {messages} (
        {messages.namespace},
        {messages.session_id}, {messages.incarnation}, {messages.seq}, {messages.turn_seq}, {messages.commit_id},
        {messages.id}, {messages.role}, {messages.content}, {messages.encoding}, {messages.name},
        {messages.tool_calls}, {messages.tool_call_id}, {messages.route}, {messages.step}, {messages.event},
        {messages.metadata}, {messages.reply}, {messages.created_at}, {messages.committed_at})
    SELECT
        CAST(:namespace AS text), /* {messages.namespace} */
        :id, incarnation, last_seq + number, last_seq + 1, :commit_id, m.id, role, content, encoding, name, tool_calls,
        tool_call_id, route, step, event, metadata, reply, created, time
    FROM changed CROSS JOIN unnest(CAST(:ids AS text[]), CAST(:roles AS text[]), CAST(:contents AS text[]),
        CAST(:encodings AS text[]), CAST(:names AS text[]), CAST(:tool_calls AS text[]),
        CAST(:tool_call_ids AS text[]), CAST(:routes AS text[]), CAST(:steps AS text[]), CAST(:events AS text[]),
        CAST(:metadatas AS text[]), CAST(:replies AS text[]), CAST(:created AS timestamptz[]))
        WITH ORDINALITY AS m (id, role, content, encoding, name, tool_calls, tool_call_id, route, step, event,
            metadata, reply, created, number)
)
SELECT incarnation, version + 1, coalesce(:version IS NOT NULL OR (version = CAST(:seen_version AS bigint)
    AND incarnation = CAST(:seen_incarnation AS text) AND last_commit = :seen_commit), false), last_seq + :count,
    last_seq + :count - floor, time AT TIME ZONE 'UTC', expires_at AT TIME ZONE 'UTC'
FROM changed;
