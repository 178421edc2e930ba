"""A streaming server on loopback with a known schedule, which logs its own times: what the load generator is held to.

    with LoopbackStub() as stub:
        stub.configure(ttft_s=0.2, itl_s=0.02, events=64)
        ...                                   # send requests to stub.chat_url
        served = stub.log()

or, from a shell, `python -m helpers.load.loopback_stub`, which prints its address as one JSON line and ends when its
standard input closes.

It is a separate process: one thread, raw sockets, a timer with nanosecond resolution where Linux has it. Every event
of a timed answer is a separate `send`, and the stamp is taken just before it; a request's arrival is the kernel's
stamp. So a late server is no error of the client. An answer without delays (TTFT and ITL zero) is one `send` of
everything, unless a send for each event is asked. The path decides the format: below `/endpoints/` the server-sent
events are wrapped in AWS event-stream frames, else they are sent unchanged.

    handle        the stub as its users see it: start, configure, log, end
    schedule      what is asked of the server, and what it logs of each request
    server        the server's turns: reading requests, sending what is due
    timer         what wakes it
    wire          a connection, and an answer under way on it
    answers       the bytes of an answer
    certificate   TLS without an authority
    __main__      the process

Times in the log are `CLOCK_MONOTONIC` nanoseconds, which every process of the machine shares.
"""

from helpers.load.loopback_stub.handle import LoopbackStub
from helpers.load.loopback_stub.schedule import Schedule, ServedRequest

__all__ = ["LoopbackStub", "Schedule", "ServedRequest"]
