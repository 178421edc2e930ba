"""Results measured by others, read into a run folder: FMBench, GuideLLM, AIPerf and `vllm bench serve`.

settings    what a config says of result files
found       what a reader finds in a file, whatever its format
files       finding and opening files; the words where one cannot be read
fmbench  guidellm  aiperf  vllm      one reader per tool
timed       requests with times become request records with a steady window
importing   from the config to the records and groups of a run folder, and what the files did not tell
"""
