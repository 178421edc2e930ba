"""The cores that this process may use."""

import os


def allowed_cpus() -> list[int]:
    """Their numbers, ascending; where the system cannot tell, all of them."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def pin_to_last_cpus(threads: int | None) -> None:
    """Keeps the whole process, HTTP included, on as many cores as it has threads: one core is then truly one core."""
    if threads is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, allowed_cpus()[-threads:])
