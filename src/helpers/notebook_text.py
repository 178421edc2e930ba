"""What a notebook prints, as opposed to what it displays."""

from __future__ import annotations

import sys


def show_as_text(kind: type[Exception]) -> None:
    """From now on IPython prints only the message of such an error, without a traceback; the remaining cells do not run."""
    if "IPython" not in sys.modules:
        return
    from IPython import get_ipython

    if (shell := get_ipython()) is not None:
        shell.set_custom_exc((kind,), _print_message)


def _print_message(
    shell: object, kind: type[Exception], error: Exception, trace: object, tb_offset: object = None
) -> None:
    print(error, flush=True)  # noqa: T201
