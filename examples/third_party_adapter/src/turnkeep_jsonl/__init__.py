"""Turnkeep's conversations as files of JSON lines. The adapter is ``turnkeep_jsonl.adapter.JsonlAdapter``."""
