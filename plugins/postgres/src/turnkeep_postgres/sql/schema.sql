-- What the migrations add up to, for reading; a test proves the two equal. Everything here runs in psql.
--
-- Ids compare byte by byte (COLLATE "C"). Documents are texts that no query looks into: jsonb would refuse some and
-- change others, and what a payload filter sealed is no JSON at all.

-- Which migrations were applied. This record is what makes the tables ours.
CREATE TABLE turnkeep_schema (
    version integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL
);

CREATE TABLE turnkeep_sessions (
    namespace text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C",
    agent_name text COLLATE "C",
    status text COLLATE "C" NOT NULL,
    current_route text COLLATE "C",
    current_step text COLLATE "C",
    message_count bigint GENERATED ALWAYS AS (last_seq - floor) STORED,
    last_message_at timestamptz,
    completed_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    expires_at timestamptz,                 -- there is no such session from this instant on
    incarnation text COLLATE "C" NOT NULL,  -- which life of this id
    version bigint NOT NULL,                -- commits so far
    last_commit text COLLATE "C" NOT NULL,
    last_seq bigint NOT NULL,
    floor bigint NOT NULL,                  -- history at or below this seq is gone
    trim_at timestamptz,                    -- when the first of the marks passes
    marks text,                             -- [[seq, microseconds since 1970 at which history up to it leaves], …]
    collected_data text NOT NULL,
    state text NOT NULL,
    PRIMARY KEY (namespace, id)
);

-- An update that moves a session in one of these writes it anew in all of them, so there are no more than lists need.
CREATE INDEX turnkeep_sessions_activity ON turnkeep_sessions (namespace, status, updated_at DESC, id);
CREATE INDEX turnkeep_sessions_owner_activity ON turnkeep_sessions (namespace, user_id, status, updated_at DESC, id);
CREATE INDEX turnkeep_sessions_created ON turnkeep_sessions (namespace, created_at, id);
CREATE INDEX turnkeep_sessions_owner_created ON turnkeep_sessions (namespace, user_id, created_at, id);
CREATE INDEX turnkeep_sessions_expiry ON turnkeep_sessions (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX turnkeep_sessions_trim ON turnkeep_sessions (trim_at) WHERE trim_at IS NOT NULL;

-- The foreign keys are what makes deleting complete: their cascade sees messages that a commit added while the DELETE
-- waited for it, which no statement of ours, with its snapshot of the time before, could see.
CREATE TABLE turnkeep_messages (
    namespace text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    incarnation text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,                    -- 1, 2, 3 … in order of commit, never reused
    turn_seq bigint NOT NULL,               -- seq of the first message of the same commit
    commit_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    role text NOT NULL,
    name text,
    content text NOT NULL,
    encoding text NOT NULL,                 -- how to read content: plain, json or sealed
    tool_calls text,
    tool_call_id text,
    route text,
    step text,
    event text,
    metadata text,
    reply text,
    created_at timestamptz NOT NULL,        -- the application's clock
    committed_at timestamptz NOT NULL,      -- the server's clock
    PRIMARY KEY (namespace, session_id, incarnation, seq),
    FOREIGN KEY (namespace, session_id) REFERENCES turnkeep_sessions (namespace, id) ON DELETE CASCADE
);

-- Every commit of a living session, so that one sent again is answered with its first result.
CREATE TABLE turnkeep_commits (
    namespace text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    incarnation text COLLATE "C" NOT NULL,
    commit_id text COLLATE "C" NOT NULL,
    digest text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    created boolean NOT NULL,
    first_seq bigint,
    last_seq bigint,
    message_count bigint NOT NULL,
    committed_at timestamptz NOT NULL,
    PRIMARY KEY (namespace, session_id, incarnation, commit_id),
    FOREIGN KEY (namespace, session_id) REFERENCES turnkeep_sessions (namespace, id) ON DELETE CASCADE
);

-- Messages with the owner of their session, who may be set later (claim_session) and is therefore not copied into each.
CREATE VIEW turnkeep_history AS
    SELECT message.id, message.namespace, message.session_id, session.user_id, message.seq, message.role, message.name,
        message.content, message.route, message.step, message.tool_calls, message.event, message.created_at
    FROM turnkeep_messages AS message
    JOIN turnkeep_sessions AS session
        ON session.namespace = message.namespace AND session.id = message.session_id
        AND session.incarnation = message.incarnation
    WHERE message.seq > session.floor;
