"""Targets: the ways to reach a served model.

Each target is one small class with the methods of `targets.base.Target`: plan -> create -> status -> address. The load
generator only ever sees an `Address`; it knows nothing of what is behind it. Deleting is in `helpers.endpoints.teardown`.
"""
