"""Imports other tools' results into a run folder, with one reader per tool.

found       what a reader finds in a file of any format
files       finding and opening files, and messages for those that cannot be read
rows        values in a file, and messages for bad ones
fmbench  guidellm  guidellm_early  aiperf  vllm  vllm_sweep  sglang  inferencex  genai_perf  llmeter  inference_perf
            one reader per tool
printed     percentiles that a tool printed, under the names that a group uses
formats     which reader reads which format, and how a format is detected
timed       requests with times become request records with a steady window
importing   from the config to the records and groups of a run folder, and what the files lack
"""
