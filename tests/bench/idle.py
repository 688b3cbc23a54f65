"""What the daemon takes while nothing is to be done: wake-ups, and memory of it and its workers, also while they install."""

import os
import time

import original
from checks import Rounds, scripts
from fleet import Calls, Daemon, fleet, memory
from sandbox import spread, table, wait_for

# Seconds for which a daemon without checks and heartbeats is watched.
QUIET = 20
# Checks and heartbeats whose wake-ups are counted.
ROUNDS = 8
# The agents of a host whose wake-ups are counted, and the settings of the hour that is calculated.
AGENTS, CHECK_INTERVAL, INTERVAL = 10, 30, 300
BIG = 100_000_000
STARTS = "#!/bin/sh\ncase $1 in start) echo started >'{calls}' ;; status) echo started ;; esac\n"


def measure(sandbox, binaries, pairs):
    for binary in binaries:
        print_wakeups(sandbox, binary)
        print_memory(sandbox, binary, pairs)
    original.table("idle")


def print_wakeups(sandbox, binary):
    nothing = wakeups(sandbox, binary, False, lambda cycle: time.sleep(QUIET))
    check = wakeups(sandbox, binary, False, lambda cycle: cycle.go(ROUNDS), check_interval=1) / ROUNDS
    beat = wakeups(sandbox, binary, True, lambda cycle: cycle.go(ROUNDS)) / ROUNDS
    hour = 3600 / CHECK_INTERVAL * check + 3600 / INTERVAL * (beat - check)
    rows = [[f"nothing due, in {QUIET} s", nothing],
            ["for a check", f"{check:.1f}"],
            ["for a heartbeat, its check included", f"{beat:.1f}"],
            [f"an hour, checks each {CHECK_INTERVAL} s, heartbeats each {INTERVAL} s, calculated", f"{hour:,.0f}"]]
    table(f"Wake-ups of the daemon with {AGENTS} agents", ["", "wake-ups"], rows)


def wakeups(sandbox, binary, posts, work, check_interval=0):
    made = scripts(AGENTS, sandbox.path("calls"))
    with Calls(sandbox.path("calls")) as calls, fleet(sandbox, binary, made, check_interval=check_interval) as (meta, command):
        with Daemon(sandbox, command) as daemon:
            cycle = Rounds(daemon, meta, calls, posts)
            # The status document is written a moment after the first check.
            time.sleep(2)
            before = daemon.wakeups()
            work(cycle)
            return daemon.wakeups() - before


def print_memory(sandbox, binary, pairs):
    rows = []
    for count in (10, 100, 1000):
        runs = [after_heartbeats(sandbox, binary, count) for _ in range(pairs)]
        rows.append(row(f"daemon, {count:,} agents, after 5 heartbeats", [run[0] for run in runs]))
        rows.append(row(f"worker of these heartbeats, at its largest, {count:,} agents", [run[1] for run in runs]))
    runs = [while_installing(sandbox, binary) for _ in range(pairs)]
    rows.append(row(f"daemon while {BIG / 1e6:.0f} MB are installed, at its largest", [run[0] for run in runs]))
    rows.append(row("worker that installs them, at its largest", [run[1] for run in runs]))
    table(f"Memory in KB, {pairs} times", ["", "RSS", "private", "of it written"], rows)


def row(name, found):
    return [name, *(spread(column, "{:,.0f}") for column in zip(*found))]


def after_heartbeats(sandbox, binary, count):
    """Returns the memory of the daemon, and the most that a worker had."""
    made = scripts(count, sandbox.path("calls"))
    with Calls(sandbox.path("calls")) as calls, fleet(sandbox, binary, made, check_interval=0) as (meta, command):
        with Daemon(sandbox, command) as daemon:
            Rounds(daemon, meta, calls, True).go(4)
            asked = len(meta.asked)
            daemon.sync()
            _, worker = watch(daemon, "beat", lambda: len(meta.asked) > asked and not daemon.workers())
            return memory(daemon.pid), worker


def while_installing(sandbox, binary):
    """Returns the most memory that the daemon had, and the worker, while it installed."""
    publish_big(sandbox)
    with Calls(sandbox.path("calls")) as calls, fleet(sandbox, binary, {}, check_interval=0) as (meta, command):
        with Daemon(sandbox, command) as daemon:
            meta.entries = [sandbox.desired("big", "1.0.0", work=sandbox.unused("work"))]
            daemon.sync()
            most = watch(daemon, "act", lambda: calls.count("started") > 0)
        sandbox.remove("work")
        return most


def publish_big(sandbox):
    tree = sandbox.fresh("tree")
    sandbox.write("tree/control", STARTS.format(calls=sandbox.path("calls")), 0o755)
    with open(f"{tree}/data", "wb") as file:
        file.write(os.urandom(BIG))
    sandbox.publish("big", "1.0.0", tree)


def watch(daemon, role, is_over):
    """Returns the most memory that the daemon and a worker of this role had until it is over."""
    most = [(0, 0, 0), (0, 0, 0)]

    def look():
        for index, pids in enumerate(([daemon.pid], daemon.workers(role))):
            for found in filter(None, map(memory, pids)):
                most[index] = tuple(map(max, most[index], found))
        return is_over()

    wait_for("a worker", look)
    return most
