"""`python -m helpers.load.loopback_stub`: the server in the foreground."""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import ssl
import sys
import tempfile
from pathlib import Path

from helpers.load.loopback_stub.certificate import write_certificate
from helpers.load.loopback_stub.server import Server
from helpers.load.system import raise_open_files_limit


def main() -> None:
    """Serve until standard input closes."""
    parser = argparse.ArgumentParser(description="A streaming server on loopback with a known schedule.")
    parser.add_argument("--tls", action="store_true", help="with a certificate made on the spot")
    parser.add_argument("--cpu", type=int, help="the CPU to keep to")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    arguments = parser.parse_args()
    if arguments.cpu is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {arguments.cpu})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group; the process that started it closes the pipe
    raise_open_files_limit()
    with tempfile.TemporaryDirectory(prefix="loopback-stub-") as folder:
        context, pem = None, Path(folder) / "certificate.pem"
        if arguments.tls:
            write_certificate(pem)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
        server = Server(context, arguments.host)
        address = {
            "url": f"{'https' if context else 'http'}://{arguments.host}:{server.port}",
            "ca_file": str(pem) if context else None,
        }
        sys.stdout.write(json.dumps(address) + "\n")
        sys.stdout.flush()
        gc.collect()
        gc.disable()
        server.serve(until_closed=sys.stdin.fileno())


if __name__ == "__main__":
    main()
