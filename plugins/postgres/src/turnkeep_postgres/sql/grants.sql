-- What a role needs that runs an application but owns no tables: everything on rows, nothing on tables.
--
--     psql -v schema=public -v role=app -f grants.sql
--
-- Run it as the owner of the tables, after `turnkeep migrate`; and open stores with auto_create=False.
GRANT USAGE ON SCHEMA :"schema" TO :"role";
GRANT SELECT, INSERT, UPDATE, DELETE ON :"schema".turnkeep_sessions, :"schema".turnkeep_messages,
    :"schema".turnkeep_commits TO :"role";
GRANT SELECT ON :"schema".turnkeep_schema, :"schema".turnkeep_history TO :"role";
-- A message's words are made as it is written, in the right of who writes it.
GRANT EXECUTE ON FUNCTION :"schema".turnkeep_words TO :"role";
