"""The CPU cores that this process may use."""

import os


def allowed_cpus() -> list[int]:
    """Core numbers, ascending; all cores where the system has no affinity."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def pin_to_last_cpus(threads: int | None) -> None:
    """Pins the whole process, HTTP included, to as many cores as it has threads, so that one core really means one core."""
    if threads is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, allowed_cpus()[-threads:])
