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

-- The function makes the words that turnkeep.words makes, with their places, or the lexemes of a text search
-- configuration. Neither a parser nor a dictionary sees the former, so no word is a stop word.
-- What is lower case is asked of a collation that knows every script; that of the database may be C, which knows ASCII.
DO $make$
BEGIN
    EXECUTE replace($code$
        CREATE FUNCTION turnkeep_words(content text, encoding text, language regconfig) RETURNS tsvector
        LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $function$
        DECLARE
            accents CONSTANT text := '[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+';
            single CONSTANT text :=
                '[\u0e01-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u25a0-\u27bf\u2b00-\u2bff'
                '\u2e80-\u2fdf\u3005-\u3007\u3021-\u302f\u3031-\u303c\u3041-\u309f\u30a1-\u30fa'
                '\u30fc-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00016fe0-\U0001b16f'
                '\U0001f000-\U0001f3fa\U0001f400-\U0001faff\U00020000-\U0003ffff]';
            parting CONSTANT text :=
                '[\u0000-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00a9\u00ab-\u00b4\u00b6-\u00b9'
                '\u00bb-\u00bf\u00d7\u00f7\u055a-\u055f\u0589-\u058a\u05be\u05c0\u05c3\u05f3-\u05f4'
                '\u060c-\u060d\u061b-\u061f\u066a-\u066d\u06d4\u0700-\u070d\u0964-\u0965\u0970'
                '\u1361-\u1368\u1680\u2000-\u206f\u20a0-\u20cf\u2190-\u259f\u27c0-\u2aff\u2e00-\u2e2e'
                '\u2e30-\u2e7f\u3000-\u3004\u3008-\u3020\u3030\u303d-\u3040\u30a0\u30fb\ud800-\udfff'
                '\ufd3e-\ufd3f\ufe00-\ufe1f\ufe30-\ufe6f\ufff0-\uffff\U0001f3fb-\U0001f3ff'
                '\U000e0000-\U000e0fff]+';
            most CONSTANT integer := 5000;
            portion integer := 65536;
            folded text;
            words text[];
        BEGIN
            IF encoding <> 'plain' THEN
                RETURN NULL;
            END IF;
            -- The beginning of a long text may have all the words that count; the last two of a part may be cut.
            LOOP
                folded := left(content, portion);
                IF octet_length(folded) = length(folded) THEN
                    folded := lower(folded COLLATE "C");
                ELSE
                    folded := lower(regexp_replace(normalize(folded, NFKD), accents, '', 'g') COLLATE "default");
                    folded := normalize(replace(folded, chr(962), chr(963)), NFC);  -- one sigma
                    folded := regexp_replace(folded COLLATE "C", single, ' \& ', 'g');
                END IF;
                words := string_to_array(btrim(regexp_replace(folded COLLATE "C", parting, ' ', 'g')), ' ');
                EXIT WHEN portion >= length(content) OR cardinality(words) >= most + 2;
                portion := portion * 8;
            END LOOP;
            words := words[:most];
            IF language IS NOT NULL THEN
                RETURN to_tsvector(language, coalesce((
                    SELECT string_agg(left(word, 32), ' ' ORDER BY place)
                    FROM unnest(words) WITH ORDINALITY AS each (word, place)
                ), ''));
            END IF;
            RETURN (
                SELECT coalesce(string_agg('''' || left(word, 32) || ''':' || place, ' '), '')
                FROM unnest(words) WITH ORDINALITY AS each (word, place)
            )::tsvector || CASE
                -- Of one word no more than 256 places are kept: here phrases have to be looked for in the text.
                WHEN cardinality(words) > 256 AND EXISTS (
                    SELECT FROM unnest(words) AS word GROUP BY left(word, 32) HAVING count(*) > 256
                ) THEN '''*'''::tsvector
                ELSE ''
            END;
        END
        $function$
    $code$, '"default"', coalesce((
        SELECT format('pg_catalog.%I', collname)
        FROM unnest(array['pg_c_utf8', 'und-x-icu', 'C.utf8']) WITH ORDINALITY AS known (name, place)
        JOIN pg_collation ON collname = name AND collnamespace = 'pg_catalog'::regnamespace
        ORDER BY place LIMIT 1
    ), '"default"'));
END
$make$;

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
    words tsvector GENERATED ALWAYS AS (turnkeep_words(content, encoding, NULL::regconfig)) STORED,
    PRIMARY KEY (namespace, session_id, incarnation, seq),
    FOREIGN KEY (namespace, session_id) REFERENCES turnkeep_sessions (namespace, id) ON DELETE CASCADE
);

CREATE INDEX turnkeep_messages_words ON turnkeep_messages USING gin (words);

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
