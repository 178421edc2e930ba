"""AWS regions, from botocore, which is loaded only if a region is malformed or must be suggested."""

from __future__ import annotations

import difflib
import functools

WELL_FORMED = r"[a-z]{2,8}(-[a-z]+)+-[0-9]{1,2}"
"""Also matches regions and partitions that are newer than the SDK; their host names follow from the region."""


@functools.cache
def known_regions() -> tuple[str, ...]:
    """All regions of all partitions in the data of the installed SDK."""
    import botocore.session

    session = botocore.session.Session()
    partitions = session.get_available_partitions()
    return tuple(sorted({region for each in partitions for region in session.get_available_regions("ec2", each)}))


def nearest_region(region: str) -> str:
    """The known region with the most similar spelling, else the default."""
    return next(iter(difflib.get_close_matches(region.strip().lower(), known_regions(), n=1)), "us-east-1")


def unknown_region_words(region: str) -> str | None:
    """A warning that the SDK does not know a region (it may be too old, or the region misspelt); None if it knows it."""
    if region in known_regions():
        return None
    return (
        f"The installed SDK does not know the region {region}; it is used nevertheless. Next: if you meant "
        f"{nearest_region(region)}, correct aws.region"
    )
