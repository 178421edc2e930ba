"""A network inside this machine: a bridge in a network namespace of its own, this machine and more namespaces at its ports.

Its addresses are private, nothing is routed beyond it, and nothing of it is left after `close`. Needs root and `ip`.

Run as a program, it carries the frames between two TAP devices, each way later by so much: what `tc netem` does where the kernel
has it.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import queue
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress

BITS = 24
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
MOST_OF_A_FRAME = 65_536
_NUMBERS = itertools.count()


def may_have_networks() -> bool:
    """May a process have a network of its own here?"""
    with suppress(OSError):
        return not subprocess.run(
            ["unshare", "--net", "ip", "link", "add", "type", "veth"], capture_output=True
        ).returncode
    return False


class PrivateLan:
    """This machine is at `here`, and also at `server`, so that a node can be cut off from one of the two alone."""

    def __init__(self) -> None:
        number = next(_NUMBERS)
        self._name, net = f"lan{os.getpid()}-{number}", f"10.213.{(os.getpid() + 17 * number) % 250}"
        self.here, self.server = f"{net}.1", f"{net}.254"
        self._net, self._ports, self._carriers = net, 0, []
        try:
            _ip(f"netns add {self._name}")
            self._in_lan("link add bridge type bridge")
            self._in_lan("link set bridge up")
            _ip(f"link add {self._name} type veth peer name here netns {self._name}")
            self._in_lan("link set here up master bridge")
            for address in (self.here, self.server):
                _ip(f"address add {address}/{BITS} dev {self._name}")
            _ip(f"link set {self._name} up")
        except BaseException:
            self.close()
            raise

    def add(self, to_s: float = 0.0, from_s: float = 0.0) -> tuple[int, str]:
        """A namespace with a port: its number and address. What it is sent is `to_s` under way, what it sends `from_s`."""
        self._ports += 1
        port, address = self._ports, f"{self._net}.{self._ports + 1}"
        _ip(f"netns add {self._name}-{port}")
        if to_s or from_s:
            near, far = _tap("lan-near"), _tap("lan-far")
            _ip(f"link set lan-near name port{port} netns {self._name}")
            _ip(f"link set lan-far name eth0 netns {self._name}-{port}")
            carry = [sys.executable, __file__, *map(str, (near, far, to_s, from_s))]
            self._carriers.append(subprocess.Popen(carry, pass_fds=(near, far)))
            os.close(near)
            os.close(far)
        else:
            self._in_lan(f"link add port{port} type veth peer name eth0 netns {self._name}-{port}")
        self._in_lan(f"link set port{port} up master bridge")
        self.within(port, f"address add {address}/{BITS} dev eth0")
        for device in ("lo", "eth0"):
            self.within(port, f"link set {device} up")
        return port, address

    def entering(self, port: int) -> list[str]:
        """What a command is preceded by to run in a namespace."""
        return ["ip", "netns", "exec", f"{self._name}-{port}"]

    def within(self, port: int, words: str) -> None:
        """`ip` with these words, in a namespace."""
        _ip(f"-n {self._name}-{port} {words}")

    def cut(self, port: int, only_from: str | None = None) -> None:
        """Pull the plug of a namespace; `only_from` an address: lose what is sent there."""
        if only_from is None:
            self._in_lan(f"link set port{port} down")
        else:
            self.within(port, f"route add blackhole {only_from}/32")

    def close(self) -> None:
        """Remove the devices and namespaces."""
        for carrier in self._carriers:
            carrier.kill()
            carrier.wait()
        with suppress(subprocess.CalledProcessError):
            _ip(f"link delete {self._name}")
        for name in [self._name, *(f"{self._name}-{port + 1}" for port in range(self._ports))]:
            with suppress(subprocess.CalledProcessError):
                _ip(f"netns delete {name}")

    def _in_lan(self, words: str) -> None:
        _ip(f"-n {self._name} {words}")


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True)


def _tap(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    return device


def _carry(source: int, sink: int, delay_s: float) -> None:
    frames: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def write() -> None:
        while True:
            due_s, frame = frames.get()
            time.sleep(max(0.0, due_s - time.monotonic()))
            with suppress(OSError):  # the device is down
                os.write(sink, frame)

    threading.Thread(target=write, daemon=True).start()
    while True:
        frame = os.read(source, MOST_OF_A_FRAME)
        frames.put((time.monotonic() + delay_s, frame))


if __name__ == "__main__":
    near, far = map(int, sys.argv[1:3])
    threading.Thread(target=_carry, args=(near, far, float(sys.argv[3])), daemon=True).start()
    _carry(far, near, float(sys.argv[4]))
