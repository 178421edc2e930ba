"""Results measured by others, read into a run folder: each tool's files by a reader of its own.

settings    what a config says of result files
found       what a reader finds in a file, whatever its format
files       finding and opening files; the words where one cannot be read
fmbench  guidellm  guidellm_early  aiperf  vllm  vllm_sweep  sglang  inferencex  genai_perf  llmeter  inference_perf
            one reader per tool
printed     percentiles that a tool printed, in the words of a group
formats     which reader reads which format, and how a file is known by its content
timed       requests with times become request records with a steady window
importing   from the config to the records and groups of a run folder, and what the files did not tell
"""
