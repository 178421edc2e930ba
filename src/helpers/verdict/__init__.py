"""What the measurements say (notebook 04): which option meets the SLO at the lowest cost, and how sure that is."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "analysis": [
            "read_measurements",
            "read_endpoints",
            "read_failures",
            "read_points",
            "read_quality",
            "read_warnings",
            "write_metrics",
            "write_verdict",
        ],
        "changes": ["find_changes", "read_changes"],
        "judging": ["judge"],
        "compare": ["compare_with", "read_comparison"],
        "startup": ["read_startups"],
    },
)
