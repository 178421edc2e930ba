"""The load process: takes messages from its standard input, one JSON line each, and answers on standard output.

It ends when its input ends, also when whoever gave the orders has died.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import sys
import threading
import traceback

from pydantic import BaseModel

from helpers.load import order as messages
from helpers.load.bodies import prepare_requests
from helpers.load.closed_loop import ClosedLoopSender
from helpers.load.open_loop import OpenLoopSender
from helpers.load.post_pass import ordered_prompts, parse, write
from helpers.load.sender import Sender
from helpers.load.spool import SpoolWriter
from helpers.load.system import raise_open_files_limit

FAULT_EXIT_CODE = 4
ORPHANED_EXIT_CODE = 3
UNREAD_PROGRESS = 50


def main(place: int) -> None:
    """Serve until standard input ends. Load processes that run at once have different places, from 0 on."""
    _stay_on_one_cpu(place)
    raise_open_files_limit()
    try:
        import uvloop
    except ImportError:  # not available on this platform: the same code on asyncio's own loop
        asyncio.run(_serve())
    else:
        uvloop.run(_serve())


def _stay_on_one_cpu(place: int) -> None:
    """Keep to one CPU: a process that is moved about, or behind a busy neighbour, reads its sockets late."""
    if hasattr(os, "sched_setaffinity"):
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpus[place % len(cpus)]})


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_end_with_fault)
    inbox: asyncio.Queue[BaseModel | None] = asyncio.Queue()
    threading.Thread(target=_read_messages, args=(loop, inbox), daemon=True).start()
    teller = _Teller()
    sender: Sender | None = None
    load: asyncio.Task | None = None
    while (message := await inbox.get()) is not None:
        match message:
            case messages.Prepare():
                sender = _make_sender(message)
                teller.tell(await sender.prepare())
            case messages.Go():
                load = asyncio.create_task(_run(sender, message.start_ns, teller))
            case messages.Close():
                sender.close_window(message.close_ns)
            case messages.Stop():
                sender.stop()
                await load
            case messages.Parse():
                teller.tell(parse(message))
            case messages.Write():
                teller.tell(write(message))


async def _run(sender: Sender, start_ns: int, teller: _Teller) -> None:
    teller.tell(await sender.run(start_ns, teller.tell_progress))


def _make_sender(message: messages.Prepare) -> Sender:
    order = message.order
    load = order.load
    requests = prepare_requests(
        ordered_prompts(order), order.address, order.generation, order.extra_body, load.prefix_cache_salt
    )
    spool = SpoolWriter(order.part_folder(message.load_process))
    kind = OpenLoopSender if order.level.is_open else ClosedLoopSender
    return kind(order, message.load_process, message.of, requests, spool)


def _end_with_fault(loop: asyncio.AbstractEventLoop, context: dict) -> None:
    """A fault in a callback would silently lose requests: end the process, which its conductor tells."""
    error = context.get("exception")
    sys.stderr.write("".join(traceback.format_exception(error)) if error else f"{context.get('message')}\n")
    sys.stderr.flush()
    os._exit(FAULT_EXIT_CODE)


# --- the pipes ----------------------------------------------------------------------------------------------------


def _read_messages(loop: asyncio.AbstractEventLoop, inbox: asyncio.Queue) -> None:
    """Hand on messages; end the process at once if the pipe closes: whoever could use its work is gone."""
    for line in sys.stdin:
        message = messages.Message.model_validate({"message": json.loads(line)}).message
        loop.call_soon_threadsafe(inbox.put_nowait, message)
    os._exit(ORPHANED_EXIT_CODE)


class _Teller:
    """Writes to standard output in a thread of its own: a reader that is slow does not hold up the load."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._write, daemon=True).start()

    def tell(self, message: BaseModel) -> None:
        self._lines.put(message.model_dump_json())

    def tell_progress(self, progress: messages.Progress) -> None:
        """Progress that nobody reads may be lost."""
        if progress.clear_ns is not None or self._lines.qsize() < UNREAD_PROGRESS:
            self.tell(progress)

    def _write(self) -> None:
        while True:
            sys.stdout.write(self._lines.get() + "\n")
            sys.stdout.flush()
