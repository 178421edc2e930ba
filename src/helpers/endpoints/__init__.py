"""The endpoints of a run (notebooks 02 and 03): planned, priced, made, asked, loaded and deleted."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "preflight": ["check_files"],
        "deployments": ["start_deployments"],
        "loading": ["load_all"],
    },
)
