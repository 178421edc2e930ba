"""The load generator. It runs in processes of its own, which do one thing while they measure: send bytes, stamp bytes.

    messages        what crosses the pipes to and from load processes
    load_processes  load processes, one per CPU, seen from the notebook
    attempt_run     one attempt: start, look whether it is enough, stop, parse, write
    schedule      arrivals of an open loop, drawn beforehand and checked afterwards
    window        from the requests so far to the steady window
    steady        the end of a warm-up, and whether what follows is steady
    findings      what a load point says of itself, and whether the client shaped it
    attempts      which repetitions count, and which are to be measured again

    process       a load process (`python -m helpers.load`)
    bodies        request bytes, made before the start; `signing` signs them at the send
    sender        what `closed_loop` and `open_loop` share
    connection    one HTTP/1.1 connection that stamps every socket read
    alarm         a timer that is exact to microseconds
    system        what that and the stamps ask of the operating system
    spool         what came back, on disk while the load point runs
    postprocessing     after the load point: bytes and stamps become request records, by way of
    responses     an answer from its bytes; `http_body`, `event_stream`, `events` and `apis` peel its layers

    spread        percentiles of many times
    loopback_stub a server with a known schedule, to hold all this to

All times are `CLOCK_MONOTONIC` nanoseconds.
"""
