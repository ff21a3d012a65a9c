-- Words of messages, for search_messages; what is there already is read once.
-- FTS5 is given the words that turnkeep.words makes, parted by blanks: its tokenizer has nothing left to decide.
-- `place` holds a name for the namespace and one for the owner in it, so that a common word of others costs nothing.
CREATE VIRTUAL TABLE turnkeep_words USING fts5 (words, place, tokenize = 'ascii');

-- VACUUM may give the rows of this table other rowids, so words need a number that stays.
ALTER TABLE turnkeep_messages ADD COLUMN serial INTEGER;

UPDATE turnkeep_messages SET serial = rowid;

CREATE UNIQUE INDEX turnkeep_messages_serial ON turnkeep_messages (serial);

INSERT INTO turnkeep_words (rowid, words, place)
    SELECT message.serial, words_of(message.content, message.encoding), place_of(session.namespace, session.user_id)
    FROM turnkeep_messages AS message
    JOIN turnkeep_sessions AS session ON session.namespace = message.namespace AND session.id = message.session_id;

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
