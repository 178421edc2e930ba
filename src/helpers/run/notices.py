"""Notices of how a run ended, to the channels of a config's `notify`: an SNS topic, a webhook, a command.

A notice that cannot be sent is a warning and never an error: the run's result stands. All channels are tried at once, and none
is waited for longer than `TIMEOUT_S`. The webhook's URL is a secret, so no message quotes it or an error that might.
"""

from __future__ import annotations

import html
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from helpers.config.notify import Notify
from helpers.config.yaml import expanded
from helpers.errors import cut
from helpers.number_text import plural
from helpers.run.aws_errors import Cause, cause_of_error

if TYPE_CHECKING:
    from botocore.client import BaseClient

TIMEOUT_S = 10.0
MOST_CHARACTERS = 8000
MOST_CHARACTERS_OF_A_SUBJECT = 99
"""SNS allows fewer than 100, in ASCII."""
_NEXT = {
    "sns_topic": "check that the topic exists and that docs/policies/caller.json allows it; the run itself is not affected",
    "webhook": "check the URL in the variable that notify.webhook names, and that this machine reaches it; the run itself is "
    "not affected",
    "command": "run the command by hand; the run itself is not affected",
}


@dataclass(frozen=True)
class Notice:
    """What is sent: a subject, a text for people, and fields for programs."""

    subject: str
    text: str
    fields: dict[str, str | int | float | None] = field(default_factory=dict)


class _NotSent(Exception):
    """A channel that refused, in words that hold no secret."""


def send(notify: Notify, notice: Notice) -> list[str]:
    """Send a notice to every channel; returns a warning with the next step for each that failed. Never raises."""
    ways: dict[str, Callable[[Notify, Notice], None]] = {"sns_topic": _publish, "webhook": _post, "command": _start}
    late = f"no end within {TIMEOUT_S:g} s"
    failed = {name: f"{late}. Next: {_NEXT[name]}" for name in ways if getattr(notify, name) is not None}

    def attempt(name: str) -> None:
        try:
            ways[name](notify, notice)
        except Exception as error:  # noqa: BLE001 (whatever happens to a notice, the run has ended as it has)
            failed[name] = _why(name, error)
        else:
            del failed[name]

    threads = [threading.Thread(target=attempt, args=(name,), daemon=True) for name in list(failed)]
    deadline = time.monotonic() + TIMEOUT_S
    with suppress(KeyboardInterrupt):  # a person does not wait for the others
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    return [f"Warning: notify.{name}: the notice was not sent: {why}" for name, why in list(failed.items())]


def check_channels(notify: Notify | None) -> Iterator[tuple[str, bool]]:
    """What can be found out about each channel without sending: a line, and whether all is well."""
    if notify is None:
        return
    if notify.sns_topic:
        try:
            _sns(notify.sns_topic).get_topic_attributes(TopicArn=notify.sns_topic)
        except Exception as error:  # noqa: BLE001 (any reason is one to read)
            yield (
                f"notify.sns_topic: {notify.sns_topic} cannot be used: {_why('sns_topic', error)}",
                False,
            )
        else:
            yield f"notify.sns_topic: {notify.sns_topic} exists.", True
    if notify.webhook:
        yield "notify.webhook: is a URL; whether it takes a notice shows when one is sent.", True
    if notify.command:
        program = str(expanded(notify.command[0]))
        is_there = shutil.which(program) is not None
        said = "is there" if is_there else "is no program on this machine. Next: correct it, or install it"
        yield f"notify.command: {program} {said}.", is_there


# --- channels -----------------------------------------------------------------------------------------------------


def _publish(notify: Notify, notice: Notice) -> None:
    subject = " ".join(notice.subject.split()).encode("ascii", "replace").decode()[:MOST_CHARACTERS_OF_A_SUBJECT]
    text = cut(notice.text, MOST_CHARACTERS)
    _sns(notify.sns_topic).publish(TopicArn=notify.sns_topic, Subject=subject, Message=text)


def _sns(topic: str) -> BaseClient:
    from botocore.config import Config

    from helpers.run.sessions import session_of_profile

    config = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2, "mode": "standard"})
    return session_of_profile(None, None, topic.split(":")[3]).client("sns", config=config)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST becomes a GET, which would look as if the notice had arrived."""

    def redirect_request(self, *_: object) -> None:
        return None


def _post(notify: Notify, notice: Notice) -> None:
    """Slack and its kin read `&`, `<` and `>` in `text` as the start of a link or of a mention."""
    text = html.escape(cut(notice.text, MOST_CHARACTERS), quote=False)
    body = json.dumps({"text": text, "run": notice.fields}).encode()
    request = urllib.request.Request(notify.webhook, body, {"Content-Type": "application/json"}, method="POST")
    try:
        urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT_S).close()
    except urllib.error.HTTPError as error:
        raise _NotSent(f"it answered HTTP {error.code}") from None
    except urllib.error.URLError as error:
        raise _NotSent(f"it was not reached ({_kind(error.reason)})") from None
    except Exception as error:  # noqa: BLE001 (the message of some has the URL)
        raise _NotSent(f"it was not reached ({_kind(error)})") from None


def _kind(error: object) -> str:
    return os.strerror(error.errno) if isinstance(error, OSError) and (error.errno or 0) > 0 else type(error).__name__


def _start(notify: Notify, notice: Notice) -> None:
    command = [str(expanded(notify.command[0])), *notify.command[1:]]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True
    ) as process:
        try:
            process.communicate(notice.text + "\n", timeout=TIMEOUT_S - 1)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise _NotSent(f"it was ended after {plural(int(TIMEOUT_S - 1), 'second')}") from None
    if process.returncode:
        raise _NotSent(f"it ended with status {process.returncode}")


def _why(name: str, error: Exception) -> str:
    """Why a channel failed, and the next step."""
    is_login = cause_of_error(error) == Cause.CREDENTIALS
    step = "log in again (aws sso login, or new keys); the run itself is not affected" if is_login else _NEXT[name]
    return f"{_in_words(error)}. Next: {step}"


def _in_words(error: Exception) -> str:
    """Why a channel failed: in AWS's words, those of the operating system, or our own."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
