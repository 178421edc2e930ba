"""What a YAML config may say: every key, its default and its limits, and the words for what it may not say."""
