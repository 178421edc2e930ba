"""What a YAML config may contain: every key, its default and limits, and the messages for invalid ones."""
