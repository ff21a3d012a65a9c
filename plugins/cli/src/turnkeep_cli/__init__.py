"""The ``turnkeep`` command: talk to an agent, look at sessions, check and migrate a database."""
