"""What is asked of the operating system beyond what Python names: exact timers, receive stamps, many open files."""

from __future__ import annotations

import ctypes
import errno
import resource
import socket
import sys
from functools import cache
from pathlib import Path

CLOCK_MONOTONIC = 1
TFD_NONBLOCK, TFD_CLOEXEC, TFD_TIMER_ABSTIME = 0o4000, 0o2000000, 1
"""Linux, timerfd_create(2); Python names them only from 3.13 on."""
SO_TIMESTAMPNS = 35
"""Linux, asm-generic/socket.h; Python's socket module does not name it."""
STAMP_SPACE = socket.CMSG_SPACE(16)
"""What `recvmsg` must leave for a receive stamp: a `struct timespec`, wall clock."""
OWN_ERRORS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EADDRINUSE, errno.EAGAIN}
)
"""Errors of connecting, sending and receiving that are this machine's: no descriptors, ports or memory are left."""
FILES_BESIDE = 32
"""Open files that a load process needs beside its connections and what it has open already."""
MOST_OPEN_FILES = 1 << 16
"""Asked for where the system sets no limit: not every system takes `unlimited` for an answer."""


def open_timer() -> int | None:
    """A file descriptor that becomes readable when its timer rings; None where the system has none."""
    if sys.platform != "linux":
        return None
    descriptor = _libc().timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
    return None if descriptor < 0 else descriptor


def set_timer(descriptor: int, at_ns: int) -> None:
    """Ring once at this time of `CLOCK_MONOTONIC`, or at once if it is past; 0: never. What rang before is forgotten."""
    interval_and_first = (ctypes.c_long * 4)(0, 0, *divmod(at_ns, 1_000_000_000))
    _libc().timerfd_settime(descriptor, TFD_TIMER_ABSTIME, interval_and_first, None)


def want_receive_stamps(sock: socket.socket) -> None:
    """Let the kernel stamp what the socket, or a connection that it accepts, receives; elsewhere than on Linux nothing."""
    if sys.platform == "linux":
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)


def raise_open_files_limit() -> None:
    """As many open files as the system lets this user have: a thousand connections need a thousand."""
    _, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_OPEN_FILES if highest == resource.RLIM_INFINITY else highest
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, highest))


def open_files_lacking(connections: int) -> tuple[int, int] | None:
    """(open files that N connections need, open files allowed) where that is too few; else None."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + sum(1 for _ in Path("/dev/fd").iterdir()) + FILES_BESIDE
    return None if allowed == resource.RLIM_INFINITY or needed <= allowed else (needed, allowed)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
