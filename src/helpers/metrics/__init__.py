"""Numbers from request records: formulas, intervals, load points, groups; docs/metrics.md has the definitions."""
