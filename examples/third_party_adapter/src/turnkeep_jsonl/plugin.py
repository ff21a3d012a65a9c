"""What the entry point loads: it names the adapter and imports nothing of it."""

from turnkeep import hookimpl


@hookimpl
def register_adapters(register):
    """``jsonl://`` is opened by ``JsonlAdapter``."""
    register("jsonl", "turnkeep_jsonl.adapter:JsonlAdapter")
