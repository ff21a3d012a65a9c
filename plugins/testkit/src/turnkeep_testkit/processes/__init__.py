"""What runs in the processes that the fault suites start.

Nothing here imports pytest: every process pays for what it imports.
"""
