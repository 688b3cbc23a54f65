"""Installing 100 MB unpacked, against curl, md5sum, tar and sync on the same files in the same run."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time

from sandbox import finish, run, spread, table

SIZE = 100_000_000
# The samples, and how many files each has.
SAMPLES = {"large": 20, "small": 3000}

CONTROL = """#!/bin/sh
case $1 in
start) echo started >'{started}' ;;
status) echo started ;;
esac
"""

TOOLS = """set -e
cd '{work}'
curl -sSf -O '{url}' -O '{url}.md5'
md5sum --quiet -c ./*.md5
mkdir new
tar xzf ./*.tar.gz -C new
sync -f new
"""


def content():
    """Returns bytes that gzip packs as well as programs and their data, about three to one."""
    chance = random.Random(1)
    words = [chance.randbytes(chance.randint(4, 14)) for _ in range(2048)]
    # A few words are frequent, most are rare, and one in forty was never seen.
    weights = [1 / (rank + 5) for rank in range(len(words))]
    chosen = chance.choices(words, weights, k=2_000_000)
    return b"".join(word if index % 40 else chance.randbytes(8) for index, word in enumerate(chosen))


def make_tree(sandbox, kind, started):
    """Makes the directory of an agent, and returns its path."""
    tree = sandbox.fresh("tree")
    sandbox.write("tree/control", CONTROL.format(started=started), 0o755)
    pool, count = content(), SAMPLES[kind]
    chance = random.Random(count)
    for index in range(count):
        directory = f"{tree}/lib/part{index % 40}"
        os.makedirs(directory, exist_ok=True)
        size = SIZE // count
        start = chance.randrange(len(pool) - size)
        with open(f"{directory}/file{index}", "wb") as file:
            file.write(pool[start:start + size])
    return tree


def install_by_tools(sandbox, url, before=()):
    work = sandbox.unused("work")
    os.mkdir(work)
    os.sync()
    return run([*before, "sh", "-c", TOOLS.format(work=work, url=url)])


def install_by_updater(sandbox, binary, kind, started, before=()):
    """Installs until `control start` is called. It is the command `apply`, which has begun with nothing."""
    command, own = sandbox.updater(binary)
    entry = sandbox.desired(kind, "1.0.0", work=sandbox.unused("work"))
    desired = sandbox.write("desired.json", json.dumps([entry]))
    os.sync()
    began = time.monotonic()
    with open(f"{own}/output", "w", encoding="utf-8") as output:
        process = subprocess.Popen([*before, *command, "apply", desired], stdout=output, stderr=output)
    with open(started, encoding="utf-8") as fifo:
        fifo.read()
    wall = time.monotonic() - began
    # What follows is the watch over the start. The signal ends it, and the worker that installed was waited for.
    process.send_signal(signal.SIGTERM)
    return finish(process, began, wall)


def system_calls(sandbox, install):
    """Returns how many system calls an install makes, and how many of each kind."""
    if not shutil.which("strace"):
        return None
    counts = sandbox.path("calls")
    install(["strace", "-f", "-c", "-o", counts])
    with open(counts, encoding="utf-8") as file:
        found = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", file.read(), re.MULTILINE)
    return {name: int(count) for count, name in found if name != "total"}


def measure(sandbox, binaries, pairs):
    started = sandbox.path("started")
    os.mkfifo(started)
    for kind in SAMPLES:
        path = sandbox.publish(kind, "1.0.0", make_tree(sandbox, kind, started))
        shutil.rmtree(sandbox.path("tree"))
        ways = {"tools": lambda before=(), path=path: install_by_tools(sandbox, f"{sandbox.store}/{path}", before)}
        for binary in binaries:
            name = f"updater, {os.path.getsize(binary):,} bytes"
            ways[name] = lambda before=(), binary=binary, kind=kind: install_by_updater(
                sandbox, binary, kind, started, before)
        size = os.path.getsize(f"{sandbox.www}/{path}")
        print_ways(sandbox, f"Install: {SAMPLES[kind]} files, {SIZE / 1e6:.0f} MB from {size / 1e6:.0f} MB", ways, pairs)


def print_ways(sandbox, title, ways, pairs):
    costs = {name: [] for name in ways}
    # The first run of each finds files that are in no cache, and does not count.
    for count in range(pairs + 1):
        for name, way in ways.items():
            cost = way()
            if count:
                costs[name].append(cost)
    rows = []
    for name, way in ways.items():
        of_tools = costs["tools"]
        wall = [cost.wall / tools.wall for cost, tools in zip(costs[name], of_tools)]
        cpu = [cost.cpu / tools.cpu for cost, tools in zip(costs[name], of_tools)]
        calls = system_calls(sandbox, way)
        rows.append([name, spread([cost.wall for cost in costs[name]]), spread(wall),
                     spread([cost.cpu for cost in costs[name]]), spread(cpu),
                     f"{sum(calls.values()):,}" if calls else "no strace",
                     ", ".join(f"{call} {count:,}" for call, count in frequent(calls))])
    sandbox.remove("work")
    table(f"{title}, {pairs} pairs", ["", "wall s", "ratio", "CPU s", "ratio", "calls", "most frequent"], rows)


def frequent(calls):
    return sorted((calls or {}).items(), key=lambda pair: -pair[1])[:6]
