"""The load generator. It runs in a process of its own and does one thing while it measures: send bytes, stamp bytes.

    bodies      request bytes, made before the start
    connection  one HTTP/1.1 connection that stamps every socket read
    closed_loop workers, warm-up, steady window, drain
    responses   after the load point: bytes and stamps become answers
    process     the load process (`python -m helpers.load`)
    driver      the other end of its pipe, in the notebook

All times are `CLOCK_MONOTONIC` nanoseconds.
"""
