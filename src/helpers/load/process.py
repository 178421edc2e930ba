"""The load process: takes messages from its standard input, one JSON line each, and answers on standard output.

It ends when its input ends, and also when the process that commands it has died.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import sys
import threading
import time
import traceback

from pydantic import BaseModel

from helpers.errors import LoadError
from helpers.load import messages
from helpers.load.adapters import adapters_by_prompt
from helpers.load.bodies import prepare_requests
from helpers.load.closed_loop import ClosedLoopSender
from helpers.load.open_loop import OpenLoopSender
from helpers.load.postprocessing import ordered_prompts, parse, write
from helpers.load.sender import Sender, raise_its_error
from helpers.load.session_senders import session_sender
from helpers.load.spool import SpoolWriter
from helpers.load.system import raise_open_files_limit
from helpers.run.disk_errors import disk_fault

FAULT_EXIT_CODE = 4
ORPHANED_EXIT_CODE = 3
UNREAD_PROGRESS = 50
ALIVE_S = 2.0
LAST_WORDS_S = 5.0
MOST_CAUSE = 500
SEE_LOG = "see logs/load-*.log in the run folder"


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
    inbox: asyncio.Queue[BaseModel | None] = asyncio.Queue()
    threading.Thread(target=_read_messages, args=(loop, inbox), daemon=True).start()
    replies = _ReplyWriter()
    place = ""
    loop.set_exception_handler(lambda _, context: _end_with_fault(replies, place, _fault_of(context)))
    sender: Sender | None = None
    while (message := await inbox.get()) is not None:
        try:
            match message:
                case messages.Prepare():
                    place = str(message.spec.part_folder(message.load_process))
                    sender = _make_sender(message)
                    replies.send(await sender.prepare())
                case messages.Go():
                    load = asyncio.create_task(_run(sender, message.start_ns, replies))
                    load.add_done_callback(raise_its_error)
                case messages.Close():
                    sender.close_window(message.close_ns)
                case messages.Stop():
                    sender.stop()
                    await load
                case messages.Parse():
                    place = message.part_file
                    replies.send(parse(message, replies.send_alive))
                case messages.Write():
                    place = message.output_file
                    replies.send(write(message, replies.send_alive))
        except Exception as error:  # noqa: BLE001 - reported, and the end of this process
            _end_with_fault(replies, place, error)


async def _run(sender: Sender, start_ns: int, replies: _ReplyWriter) -> None:
    replies.send(await sender.run(start_ns, replies.send_status))


def _make_sender(message: messages.Prepare) -> Sender:
    spec = message.spec
    load, prompts = spec.load, ordered_prompts(spec)
    if spec.sessions is not None:
        return session_sender(spec, message.load_process, message.of)
    requests = prepare_requests(
        prompts,
        spec.address,
        spec.generation,
        spec.extra_body,
        load.prefix_cache_salt,
        spec.omit_body_keys,
        adapters_by_prompt(spec.adapters, len(prompts), spec.seed, spec.dataset),
    )
    spool = SpoolWriter(spec.part_folder(message.load_process))
    kind = OpenLoopSender if spec.level.is_open else ClosedLoopSender
    return kind(spec, message.load_process, message.of, requests, spool)


def _fault_of(context: dict) -> Exception:
    """What asyncio's exception handler was called with."""
    return context.get("exception") or LoadError(str(context.get("message")))


def _end_with_fault(replies: _ReplyWriter, place: str, error: Exception) -> None:
    """A fault in a callback would silently lose requests: report it in a reply and in the log, and end the process.

    `place`: the file or folder that is being written.
    """
    with contextlib.suppress(OSError):  # the disk that is full may be the log's
        traceback.print_exception(error, file=sys.stderr)
        sys.stderr.flush()
    if isinstance(error, OSError):
        replies.send(messages.Failed(**disk_fault(error, place)._asdict()))
    elif isinstance(error, LoadError):
        cause, _, next_step = str(error).partition(". Next: ")
        replies.send(messages.Failed(cause=cause, next_step=next_step or SEE_LOG))
    else:
        replies.send(messages.Failed(cause=f"{type(error).__name__}: {error}"[:MOST_CAUSE], next_step=SEE_LOG))
    replies.finish()
    os._exit(FAULT_EXIT_CODE)


# --- the pipes ----------------------------------------------------------------------------------------------------


def _read_messages(loop: asyncio.AbstractEventLoop, inbox: asyncio.Queue) -> None:
    """Pass on commands; exit at once if the pipe closes, because nobody is left to use the results."""
    for line in sys.stdin:
        message = messages.Command.model_validate({"message": json.loads(line)}).message
        loop.call_soon_threadsafe(inbox.put_nowait, message)
    os._exit(ORPHANED_EXIT_CODE)


class _ReplyWriter:
    """Writes to standard output in a thread of its own: a reader that is slow does not hold up the load."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        self._alive_s = 0.0
        threading.Thread(target=self._write, daemon=True).start()

    def send(self, message: BaseModel) -> None:
        self._lines.put(message.model_dump_json())

    def send_status(self, status: messages.SendingStatus) -> None:
        """A status that nobody reads may be lost."""
        if status.clear_ns is not None or self._lines.qsize() < UNREAD_PROGRESS:
            self.send(status)

    def send_alive(self) -> None:
        """To be called often: reports every few seconds that work continues."""
        if (now := time.monotonic()) - self._alive_s > ALIVE_S:
            self._alive_s = now
            self.send(messages.Alive())

    def finish(self) -> None:
        """Wait a little until all is written."""
        deadline = time.monotonic() + LAST_WORDS_S
        while self._lines.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.01)

    def _write(self) -> None:
        while True:
            sys.stdout.write(self._lines.get() + "\n")
            sys.stdout.flush()
            self._lines.task_done()
