"""The series of notebooks: how each one starts, what it shows while it runs, and how it is published."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "notebook": ["open_run"],
        "explore": ["panel"],
        "displays": ["LiveEndpoints", "ProgressBars", "endpoints_table"],
        "publish": ["publish_report"],
        "status": ["run_status"],
        "verify": ["verify_endpoints", "verify_load", "verify_points", "verify_prompts", "verify_verdict"],
    },
)
