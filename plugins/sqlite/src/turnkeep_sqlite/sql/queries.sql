-- Every statement the adapter runs, by name. Times are texts (see schema.sql); `~` is later than all of them.

-- name: find_head
-- The head of one session, whoever owns it, expired or not.
SELECT user_id, agent_name, status, current_route, current_step, last_message_at, completed_at, created_at, updated_at,
    expires_at, incarnation, version, last_commit, last_seq, floor, marks, namespace, id
FROM turnkeep_sessions
WHERE namespace = ? AND id = ?;

-- name: find_session
-- As find_head, with the documents.
SELECT user_id, agent_name, status, current_route, current_step, last_message_at, completed_at, created_at, updated_at,
    expires_at, incarnation, version, last_commit, last_seq, floor, marks, namespace, id, collected_data, state
FROM turnkeep_sessions
WHERE namespace = ? AND id = ?;

-- name: insert_session
-- A new session. Takes what update_session takes, then what never changes, and the owner.
INSERT INTO turnkeep_sessions (agent_name, status, current_route, current_step, last_message_at, completed_at,
    updated_at, expires_at, version, last_commit, last_seq, floor, trim_at, marks, collected_data, state, namespace, id,
    incarnation, created_at, user_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, coalesce(?, '{}'), coalesce(?, '{}'), ?, ?, ?, ?, ?);

-- name: update_session
-- The head after a commit; documents stay where none is given. An index with a column named here is written anew.
UPDATE turnkeep_sessions
SET agent_name = ?, status = ?, current_route = ?, current_step = ?, last_message_at = ?, completed_at = ?,
    updated_at = ?, expires_at = ?, version = ?, last_commit = ?, last_seq = ?, floor = ?, trim_at = ?, marks = ?,
    collected_data = coalesce(?, collected_data), state = coalesce(?, state)
WHERE namespace = ? AND id = ?;

-- name: set_owner
-- Gives a session its owner.
UPDATE turnkeep_sessions SET user_id = ? WHERE namespace = ? AND id = ?;

-- name: set_floor
-- Moves the floor without a commit: sweeping.
UPDATE turnkeep_sessions SET floor = ?, trim_at = ?, marks = ? WHERE namespace = ? AND id = ?;

-- name: delete_session
-- The head; messages and commits have statements of their own, for connections on which foreign keys are off.
DELETE FROM turnkeep_sessions WHERE namespace = ? AND id = ?;

-- name: list_activity
-- Heads of a namespace in one status, last committed to first.
SELECT user_id, agent_name, status, current_route, current_step, last_message_at, completed_at, created_at, updated_at,
    expires_at, incarnation, version, last_commit, last_seq, floor, marks, namespace, id
FROM turnkeep_sessions
WHERE namespace = :namespace AND status = :status
    AND updated_at < :before AND updated_at <= :last AND (updated_at < :last OR id > :last_id)
    AND (:agent_name IS NULL OR agent_name = :agent_name) AND (:route IS NULL OR current_route = :route)
    AND (expires_at IS NULL OR expires_at > :now)
ORDER BY updated_at DESC, id
LIMIT :limit;

-- name: list_owner_activity
-- The same for one owner, or for the sessions without one.
SELECT user_id, agent_name, status, current_route, current_step, last_message_at, completed_at, created_at, updated_at,
    expires_at, incarnation, version, last_commit, last_seq, floor, marks, namespace, id
FROM turnkeep_sessions
WHERE namespace = :namespace AND user_id IS :owner AND status = :status
    AND updated_at < :before AND updated_at <= :last AND (updated_at < :last OR id > :last_id)
    AND (:agent_name IS NULL OR agent_name = :agent_name) AND (:route IS NULL OR current_route = :route)
    AND (expires_at IS NULL OR expires_at > :now)
ORDER BY updated_at DESC, id
LIMIT :limit;

-- name: list_created
-- Heads of a namespace, oldest first.
SELECT user_id, agent_name, status, current_route, current_step, last_message_at, completed_at, created_at, updated_at,
    expires_at, incarnation, version, last_commit, last_seq, floor, marks, namespace, id
FROM turnkeep_sessions
WHERE namespace = :namespace
    AND created_at >= :last AND (created_at > :last OR id > :last_id)
    AND (:status IS NULL OR status = :status) AND updated_at < :before
    AND (:agent_name IS NULL OR agent_name = :agent_name) AND (:route IS NULL OR current_route = :route)
    AND (expires_at IS NULL OR expires_at > :now)
ORDER BY created_at, id
LIMIT :limit;

-- name: list_owner_created
-- The same for one owner, or for the sessions without one.
SELECT user_id, agent_name, status, current_route, current_step, last_message_at, completed_at, created_at, updated_at,
    expires_at, incarnation, version, last_commit, last_seq, floor, marks, namespace, id
FROM turnkeep_sessions
WHERE namespace = :namespace AND user_id IS :owner
    AND created_at >= :last AND (created_at > :last OR id > :last_id)
    AND (:status IS NULL OR status = :status) AND updated_at < :before
    AND (:agent_name IS NULL OR agent_name = :agent_name) AND (:route IS NULL OR current_route = :route)
    AND (expires_at IS NULL OR expires_at > :now)
ORDER BY created_at, id
LIMIT :limit;

-- name: list_owned
-- Every head of one owner, expired ones included: what delete_owner removes.
SELECT user_id, agent_name, status, current_route, current_step, last_message_at, completed_at, created_at, updated_at,
    expires_at, incarnation, version, last_commit, last_seq, floor, marks, namespace, id
FROM turnkeep_sessions
WHERE namespace = ? AND user_id IS ?;

-- name: list_expired
-- Sessions that are no more, in any namespace.
SELECT namespace, id FROM turnkeep_sessions WHERE expires_at <= ? ORDER BY expires_at LIMIT ?;

-- name: list_trimmable
-- Sessions whose oldest messages have passed their age.
SELECT user_id, agent_name, status, current_route, current_step, last_message_at, completed_at, created_at, updated_at,
    expires_at, incarnation, version, last_commit, last_seq, floor, marks, namespace, id
FROM turnkeep_sessions
WHERE trim_at <= ?
ORDER BY trim_at
LIMIT ?;

-- name: insert_message
-- One message of a commit, with the next number over all sessions.
INSERT INTO turnkeep_messages (id, role, content, encoding, name, tool_calls, tool_call_id, route, step, event, metadata,
    reply, created_at, seq, turn_seq, commit_id, namespace, session_id, incarnation, committed_at, serial)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
    (SELECT coalesce(max(serial), 0) + 1 FROM turnkeep_messages));

-- name: read_messages
-- A stretch of history, both ends included.
SELECT id, role, content, encoding, name, tool_calls, tool_call_id, route, step, event, metadata, reply, created_at, seq,
    turn_seq, commit_id
FROM turnkeep_messages
WHERE namespace = ? AND session_id = ? AND incarnation = ? AND seq BETWEEN ? AND ?
ORDER BY seq;

-- name: erase_messages
-- History up to a seq.
DELETE FROM turnkeep_messages WHERE namespace = ? AND session_id = ? AND incarnation = ? AND seq <= ?;

-- name: delete_messages
-- Everything that was said in a session, in all its lives.
DELETE FROM turnkeep_messages WHERE namespace = ? AND session_id = ?;

-- name: insert_commit
-- What the session remembers of a commit.
INSERT INTO turnkeep_commits (commit_id, digest, version, created, first_seq, last_seq, message_count, committed_at,
    namespace, session_id, incarnation)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: find_commit
-- What it remembers of one.
SELECT commit_id, digest, version, created, first_seq, last_seq, message_count, committed_at
FROM turnkeep_commits
WHERE namespace = ? AND session_id = ? AND incarnation = ? AND commit_id = ?;

-- name: delete_commits
-- Forgets them, in all lives of the session.
DELETE FROM turnkeep_commits WHERE namespace = ? AND session_id = ?;

-- name: list_unread
-- Messages whose words are not in the table of words yet, and whose they are.
SELECT message.serial, message.content, message.encoding, session.namespace, session.user_id
FROM turnkeep_messages AS message
JOIN turnkeep_sessions AS session ON session.namespace = message.namespace AND session.id = message.session_id
WHERE message.serial > coalesce((SELECT rowid FROM turnkeep_words ORDER BY rowid DESC LIMIT 1), 0)
ORDER BY message.serial
LIMIT ?;

-- name: insert_words
-- The words of a message.
INSERT INTO turnkeep_words (rowid, words, place) VALUES (?, ?, ?);

-- name: search
-- Messages that match, best first. Whose words they are is asked of the index, what may be seen of the session.
WITH found AS (
    SELECT message.id, message.role, message.content, message.encoding, message.name, message.tool_calls,
        message.tool_call_id, message.route, message.step, message.event, message.metadata, message.reply,
        message.created_at, message.seq, message.turn_seq, message.commit_id, message.session_id,
        -bm25(turnkeep_words, 1.0, 0.0) AS score
    FROM turnkeep_words
    JOIN turnkeep_messages AS message ON message.serial = turnkeep_words.rowid
    JOIN turnkeep_sessions AS session
        ON session.namespace = message.namespace AND session.id = message.session_id
        AND session.incarnation = message.incarnation
    WHERE turnkeep_words MATCH :terms
        AND session.namespace = :namespace AND (:anyone OR session.user_id IS :owner)
        AND (session.expires_at IS NULL OR session.expires_at > :now)
        AND message.seq > max(session.floor, coalesce((
            SELECT max(json_extract(mark.value, '$[0]'))
            FROM json_each(session.marks) AS mark
            WHERE json_extract(mark.value, '$[1]') <= :stamp
        ), 0))
        AND (:session_id IS NULL OR message.session_id = :session_id)
        AND (:role IS NULL OR message.role = :role)
        AND message.created_at >= :since AND message.created_at < :until
)
SELECT * FROM found
WHERE :score IS NULL OR score < :score
    OR (score = :score AND (session_id > :last_id OR (session_id = :last_id AND seq > :last_seq)))
ORDER BY score DESC, session_id, seq
LIMIT :limit;

-- name: count
-- Counts per status, agent, route and day of creation over living sessions. A mark that has passed counts as floor, as when reading.
WITH living AS (
    SELECT *, max(floor, coalesce((
        SELECT max(json_extract(mark.value, '$[0]'))
        FROM json_each(marks) AS mark
        WHERE json_extract(mark.value, '$[1]') <= :stamp
    ), 0)) AS bottom
    FROM turnkeep_sessions
    WHERE namespace = :namespace AND (expires_at IS NULL OR expires_at > :now)
)
SELECT status, agent_name, current_route, substr(created_at, 1, 10), count(*), sum(last_seq - bottom),
    sum(length(CAST(collected_data AS BLOB)) + length(CAST(state AS BLOB)) + coalesce((
        SELECT sum(length(CAST(content AS BLOB)) + coalesce(length(CAST(tool_calls AS BLOB)), 0)
            + coalesce(length(CAST(event AS BLOB)), 0) + coalesce(length(CAST(metadata AS BLOB)), 0))
        FROM turnkeep_messages AS message
        WHERE message.namespace = living.namespace AND message.session_id = living.id
            AND message.incarnation = living.incarnation AND message.seq > living.bottom
    ), 0)), min(created_at), max(updated_at)
FROM living
WHERE :anyone OR user_id IS :owner
GROUP BY status, agent_name, current_route, substr(created_at, 1, 10);
