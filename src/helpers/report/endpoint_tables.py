"""Tables of what a run would make, what it may make, and how its endpoints first answered."""

from helpers.endpoints.plan import plan_table, quota_table
from helpers.endpoints.preflight import preflight_table

__all__ = ["plan_table", "preflight_table", "quota_table"]
