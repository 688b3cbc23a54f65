"""From the answer that names a version to its start, and how long an upgrade keeps the agent down."""

import os
import subprocess

import original
from fleet import Calls, Daemon, fleet
from sandbox import SLOW, spread, table, wait_for

SIZES = {"10 KB": 10_000, "100 MB": 100_000_000}
# The agent is a process that ends when it is told to: it has ended even if init is slow to reap it. Each call tells when it
# begins and ends.
CONTROL = """#!/bin/sh
is_alive() {{ {{ read -r pid <pid && read -r _ _ state _ <"/proc/$pid/stat"; }} 2>/dev/null && [ "$state" != Z ]; }}
echo "{version} begin $1" >'{calls}'
case $1 in
start) sleep 86400 <&- >&- 2>&- & echo $! >pid ;;
stop) is_alive && kill "$pid"; while is_alive; do sleep 0.01; done ;;
status) if is_alive; then echo started; else echo stopped; fi ;;
esac
echo "{version} end $1" >'{calls}'
"""


def measure(sandbox, binaries, pairs):
    with Calls(sandbox.path("calls")) as calls:
        for size in SIZES.values():
            for version in ("1.0.0", "1.0.1"):
                publish(sandbox, calls, size, version)
        for binary in binaries:
            print_upgrades(sandbox, binary, calls, pairs)
    original.table("outage")


def publish(sandbox, calls, size, version):
    """Publishes an agent whose tarball has this size: gzip makes random bytes no smaller."""
    tree = sandbox.fresh("tree")
    sandbox.write("tree/control", CONTROL.format(version=version, calls=calls.path), 0o755)
    with open(f"{tree}/data", "wb") as file:
        file.write(os.urandom(size))
    sandbox.publish(f"agent{size}", version, tree)


def print_upgrades(sandbox, binary, calls, pairs):
    rows = []
    for title, size in SIZES.items():
        for speed, store in (("full speed", sandbox.store), (f"{SLOW / 1e6:.0f} MB/s", f"{sandbox.store}/slow")):
            runs = [upgrade(sandbox, binary, calls, f"agent{size}", store) for _ in range(pairs)]
            columns = zip(*runs)
            rows.append([f"{title}, {speed}", *(spread(column, "{:.3f}") for column in columns)])
    head = ["", "fresh: answer to started", "upgrade: answer to started", "outage", "the agent's own part", "the updater's"]
    table(f"Installs and upgrades in s, {pairs} times", head, rows)


def upgrade(sandbox, binary, calls, name, store):
    """Installs a version and upgrades to the next. Returns the seconds of the columns."""
    work = sandbox.unused("work")
    with fleet(sandbox, binary, {}, check_interval=0) as (meta, command):
        try:
            with Daemon(sandbox, command) as daemon:
                fresh, _ = reach(daemon, meta, calls, sandbox.desired(name, "1.0.0", store, work))
                daemon.rest()
                later, seen = reach(daemon, meta, calls, sandbox.desired(name, "1.0.1", store, work))
                daemon.rest()
        finally:
            stop(f"{work}/{name}")
    sandbox.remove("work")
    outage, own = split(seen)
    return fresh, later, outage, own, outage - own


def reach(daemon, meta, calls, entry):
    """Lets the ops-meta desire this. Returns the seconds from its answer to the end of `control start`, and the calls."""
    calls.seen.clear()
    meta.entries = [entry]
    answers = len(meta.answered)
    daemon.sync()
    started = f"{entry['version']} end start"
    wait_for(started, lambda: calls.count(started))
    seen = list(calls.seen)
    end = next(at for at, line in seen if line == started)
    return end - meta.answered[answers], seen


def split(seen):
    """Returns how long the agent was down, and how much of that time its own scripts took to stop and to start it."""
    at = {line: when for when, line in reversed(seen)}
    own = [at[f"{version} end {verb}"] - at[f"{version} begin {verb}"] for version, verb in
           (("1.0.0", "stop"), ("1.0.1", "start"))]
    return at["1.0.1 end start"] - at["1.0.0 begin stop"], sum(own)


def stop(agent):
    """Ends the processes of the agent, whichever version runs."""
    for version in ("1.0.0", "1.0.1"):
        if os.path.exists(f"{agent}/{version}/control"):
            subprocess.run(["./control", "stop"], cwd=f"{agent}/{version}", check=True)
