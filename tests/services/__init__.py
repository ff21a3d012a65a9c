"""The real servers that tests use: found on this machine, started on free ports, ended by process id."""
