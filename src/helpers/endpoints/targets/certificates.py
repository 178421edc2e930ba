"""Files of certificates to trust for https, in addition to or instead of those of the system."""

from __future__ import annotations

import ssl
from pathlib import Path

from helpers.config.yaml import expanded
from helpers.errors import DeployError


def certificates_file(ca_file: str, folder: Path, where: str) -> str:
    """The absolute path of a `ca_file`, which may be relative to `folder`. Raises DeployError, beginning with `where`,
    for a file without certificates: found now, and not when load is to start."""
    path = (folder / expanded(ca_file)).resolve()
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:  # an SSLError is one
        raise DeployError(
            f"{where}: ca_file: {path}: {error}. Expected a file of certificates in PEM format. Next: correct the path or the "
            "file"
        ) from error
    return str(path)
