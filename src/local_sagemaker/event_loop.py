"""The event loop of the server and of the engine."""

import asyncio


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, which takes less CPU per chunk of a stream; asyncio's where uvloop is not installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
