"""The load generator. It runs in separate processes, which do one thing while they measure: send bytes, stamp bytes.

In the process that wants load:

    plan            which attempts a run is made of, and which is next; `race` and `race_state` choose the blocks of a race
    calibration     what the client itself adds, against `loopback_stub`, a server with a known schedule
    load_processes  the load processes, one per CPU, and what they owe; `process_pipes` starts them and passes messages
    cluster         the same on the nodes of a Ray cluster; `cluster_records` shifts their times to the clock of this machine
    attempt_run     one attempt: start, decide when it is enough, stop, parse, write
    attempt_progress  its progress, for display
    schedule        arrivals of an open loop, drawn in advance and checked afterwards; `trace` reads recorded ones
    window          from the requests so far to the steady window
    steady          the end of the warm-up, and whether what follows is steady
    findings        the facts of an attempt, and whether the client shaped it

In a load process (`python -m helpers.load`, `process`), and beside it:

    cluster_node    on a node of a cluster: starts load processes there, and passes on what they say
    messages        the commands and replies that cross the pipes
    bodies          request bytes, made before the start; `signing` signs them when they are sent
    sender          what `closed_loop` and `open_loop` share
    sessions        conversations: their messages, and the request of each turn; `session_senders` send them
    connection      one HTTP/1.1 connection that stamps every socket read; `answer_end` and `api_end` find where an answer ends
    precise_timer   a timer that is exact to microseconds
    system          what the timer and the stamps need from the operating system
    spool           what came back, on disk while the attempt runs
    postprocessing  after the attempt: bytes and stamps become request records, by way of
    responses       an answer from its bytes; `http_body`, `event_stream`, `events` and `apis` peel its layers

All times are `CLOCK_MONOTONIC` nanoseconds.
"""
