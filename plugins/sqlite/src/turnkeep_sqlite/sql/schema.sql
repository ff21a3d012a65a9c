-- What the migrations add up to, for reading; a test proves the two equal. Everything here runs in the sqlite3 shell.
--
-- Times are texts in UTC with six decimals and a Z: a person reads them, and their order as text is their order in time.
-- Ids compare byte by byte. Documents are texts that no query looks into.

-- Which migrations were applied. This record is what makes the tables ours.
CREATE TABLE turnkeep_schema (
    version INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at TEXT NOT NULL
) STRICT;

-- The documents stand last: where the columns before them keep their width, as they do when a message is appended,
-- SQLite leaves their pages untouched (measured: 8 KB written beside a state of 1 MB).
CREATE TABLE turnkeep_sessions (
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    user_id TEXT,
    agent_name TEXT,
    status TEXT NOT NULL,
    current_route TEXT,
    current_step TEXT,
    message_count INTEGER GENERATED ALWAYS AS (last_seq - floor) VIRTUAL,
    last_message_at TEXT,
    completed_at TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    expires_at TEXT,                -- there is no such session from this instant on
    incarnation TEXT NOT NULL,      -- which life of this id
    version INTEGER NOT NULL,       -- commits so far
    last_commit TEXT NOT NULL,
    last_seq INTEGER NOT NULL,
    floor INTEGER NOT NULL,         -- history at or below this seq is gone
    trim_at TEXT,                   -- when the first of the marks passes
    marks TEXT,                     -- [[seq, microseconds since 1970 at which history up to it leaves], …]
    collected_data TEXT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (namespace, id)
) STRICT;

-- Two indexes move with every commit, the two of creation never.
CREATE INDEX turnkeep_sessions_activity ON turnkeep_sessions (namespace, status, updated_at DESC, id);
CREATE INDEX turnkeep_sessions_owner_activity ON turnkeep_sessions (namespace, user_id, status, updated_at DESC, id);
CREATE INDEX turnkeep_sessions_created ON turnkeep_sessions (namespace, created_at, id);
CREATE INDEX turnkeep_sessions_owner_created ON turnkeep_sessions (namespace, user_id, created_at, id);
CREATE INDEX turnkeep_sessions_expiry ON turnkeep_sessions (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX turnkeep_sessions_trim ON turnkeep_sessions (trim_at) WHERE trim_at IS NOT NULL;

-- Rows with a rowid: WITHOUT ROWID loads short messages 20 % faster but needs twice the room from 1 KB on.
CREATE TABLE turnkeep_messages (
    namespace TEXT NOT NULL,
    session_id TEXT NOT NULL,
    incarnation TEXT NOT NULL,
    seq INTEGER NOT NULL,           -- 1, 2, 3 … in order of commit, never reused
    turn_seq INTEGER NOT NULL,      -- seq of the first message of the same commit
    commit_id TEXT NOT NULL,
    id TEXT NOT NULL,
    role TEXT NOT NULL,
    name TEXT,
    content TEXT NOT NULL,
    encoding TEXT NOT NULL,         -- how to read content: plain, json or sealed
    tool_calls TEXT,
    tool_call_id TEXT,
    route TEXT,
    step TEXT,
    event TEXT,
    metadata TEXT,
    reply TEXT,
    created_at TEXT NOT NULL,       -- the application's clock
    committed_at TEXT NOT NULL, serial INTEGER,     -- the clock of the machine that wrote it
    PRIMARY KEY (namespace, session_id, incarnation, seq),
    FOREIGN KEY (namespace, session_id) REFERENCES turnkeep_sessions (namespace, id) ON DELETE CASCADE
) STRICT;

CREATE UNIQUE INDEX turnkeep_messages_serial ON turnkeep_messages (serial);

-- The words of each message as turnkeep.words makes them, parted by blanks: FTS5 has nothing left to decide. `place`
-- holds a name for the namespace and one for the owner in it, so that a common word of others costs nothing. A search
-- reads what was said since the one before: a message whose serial is over the last rowid here.
CREATE VIRTUAL TABLE turnkeep_words USING fts5 (words, place, tokenize = 'ascii');

-- However a message goes, its words go with it.
CREATE TRIGGER turnkeep_messages_forget AFTER DELETE ON turnkeep_messages
BEGIN
    DELETE FROM turnkeep_words WHERE rowid = old.serial;
END;

-- Who writes beside us, turnkeep-sqlalchemy for one, gives no number.
CREATE TRIGGER turnkeep_messages_number AFTER INSERT ON turnkeep_messages WHEN new.serial IS NULL
BEGIN
    UPDATE turnkeep_messages SET serial = (SELECT coalesce(max(serial), 0) + 1 FROM turnkeep_messages)
    WHERE rowid = new.rowid;
END;

-- A session that was claimed is read anew: its words are in another place now.
CREATE TRIGGER turnkeep_sessions_claim AFTER UPDATE OF user_id ON turnkeep_sessions WHEN new.user_id IS NOT old.user_id
BEGIN
    DELETE FROM turnkeep_words WHERE rowid IN (
        SELECT serial FROM turnkeep_messages WHERE namespace = new.namespace AND session_id = new.id
    );
    UPDATE turnkeep_messages SET serial = serial + (SELECT max(serial) FROM turnkeep_messages)
    WHERE namespace = new.namespace AND session_id = new.id;
END;

-- Every commit of a living session, so that one sent again is answered with its first result.
CREATE TABLE turnkeep_commits (
    namespace TEXT NOT NULL,
    session_id TEXT NOT NULL,
    incarnation TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    version INTEGER NOT NULL,
    created INTEGER NOT NULL,
    first_seq INTEGER,
    last_seq INTEGER,
    message_count INTEGER NOT NULL,
    committed_at TEXT NOT NULL,
    PRIMARY KEY (namespace, session_id, incarnation, commit_id),
    FOREIGN KEY (namespace, session_id) REFERENCES turnkeep_sessions (namespace, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Messages with the owner of their session, who may be set later (claim_session) and is therefore not copied into each.
CREATE VIEW turnkeep_history AS
    SELECT message.id, message.namespace, message.session_id, session.user_id, message.seq, message.role, message.name,
        message.content, message.route, message.step, message.tool_calls, message.event, message.created_at
    FROM turnkeep_messages AS message
    JOIN turnkeep_sessions AS session
        ON session.namespace = message.namespace AND session.id = message.session_id
        AND session.incarnation = message.incarnation
    WHERE message.seq > session.floor;
