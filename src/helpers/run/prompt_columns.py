"""Columns of the prompt files of conversations."""

CONVERSATION = "conversation"
"""The texts of a conversation as JSON: `{"system": ..., "turns": [[user, recorded reply or null], ...]}`."""
TURNS_PREFIX = "turns:"
"""Columns `turns:prompt_tokens` and `turns:tokens:<tokenizer>` hold the prompt tokens of each turn, history included; the columns
without the prefix hold those of the last turn."""
