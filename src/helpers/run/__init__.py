"""The run folder: one module for each thing in it, its copy in S3, and the AWS sessions of a run."""
