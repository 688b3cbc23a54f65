"""What a check and a heartbeat cost with 1, 10, 100 and 1,000 agents, and how long they take."""

import re
import shutil
import signal
import subprocess
import time

import original
from fleet import Calls, Daemon, fleet
from sandbox import spread, table, wait_for

# Agents, and how many checks are measured together.
SIZES = {1: 8, 10: 8, 100: 4, 1000: 2}
# The first agent tells when it is checked.
FIRST = "#!/bin/sh\n[ \"$1\" = status ] && echo checked >'{calls}'\n{pause}\necho started\n"
OTHER = "#!/bin/sh\n{pause}\necho started\n"
FORKS = "trace=clone,clone3,fork,vfork"


def scripts(count, fifo, pause=":"):
    """Returns the control scripts of so many agents, by name."""
    made = {f"agent{index}": OTHER.format(pause=pause) for index in range(count)}
    made["agent0"] = FIRST.format(calls=fifo, pause=pause)
    return made


class Rounds:
    """A daemon that checks its agents: each second, or for a heartbeat when it is asked to."""

    def __init__(self, daemon, meta, calls, posts):
        self.daemon, self.meta, self.calls, self.posts = daemon, meta, calls, posts
        wait_for("the first check", lambda: calls.count("checked") > 0)
        daemon.rest()

    def go(self, rounds):
        """Lets so many rounds pass. Returns how long each took to its POST, in seconds."""
        if not self.posts:
            last = self.calls.count("checked") + rounds
            wait_for("checks", lambda: self.calls.count("checked") >= last)
            self.daemon.rest()
            return []
        return [self.heartbeat() for _ in range(rounds)]

    def heartbeat(self):
        asked, began = len(self.meta.asked), time.monotonic()
        self.daemon.sync()
        wait_for("a heartbeat", lambda: len(self.meta.asked) > asked)
        self.daemon.rest()
        return self.meta.asked[asked] - began


def run_rounds(sandbox, meta, command, rounds, posts):
    """Runs a daemon for the first check and so many rounds.

    Returns CPU seconds of all, bytes written by a round, and seconds from the wish for a heartbeat to its POST.
    """
    with Calls(sandbox.path("calls")) as calls, Daemon(sandbox, command) as daemon:
        cycle = Rounds(daemon, meta, calls, posts)
        before = daemon.written()
        times = cycle.go(rounds)
        written = [(now - then) / max(rounds, 1) for now, then in zip(daemon.written(), before)]
        return daemon.end().cpu, written, times


def count_forks(sandbox, meta, command, posts):
    """Returns how many processes begin for one round."""
    counts = sandbox.path("forks")
    with Calls(sandbox.path("calls")) as calls, Daemon(sandbox, command) as daemon:
        cycle = Rounds(daemon, meta, calls, posts)
        trace = ["strace", "-f", "-c", "-e", FORKS, "-o", counts, "-p", str(daemon.pid)]
        strace = subprocess.Popen(trace, stderr=subprocess.PIPE)
        try:
            # It says that it is attached.
            strace.stderr.readline()
            cycle.go(1)
        finally:
            strace.send_signal(signal.SIGINT)
            strace.communicate()
    with open(counts, encoding="utf-8") as file:
        found = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(?:clone3?|v?fork)$", file.read(), re.MULTILINE)
    return sum(map(int, found))


def measure(sandbox, binaries, pairs):
    for binary in binaries:
        for posts in (False, True):
            name = "heartbeat, its check included" if posts else "check"
            print_costs(sandbox, binary, f"A {name}", posts, pairs)
        print_times(sandbox, binary, pairs)
    original.table("checks")


def print_costs(sandbox, binary, title, posts, pairs):
    rows, last = [], None
    for count, rounds in SIZES.items():
        cpu, written, times, forks = costs(sandbox, binary, count, rounds, posts, pairs)
        middle = sorted(cpu)[len(cpu) // 2]
        further = (middle - last[1]) / (count - last[0]) if last else middle
        last = (count, middle)
        rows.append([f"{count:,}", spread(cpu, "{:.1f}"), f"{middle / count:.2f}", f"{further:.2f}",
                     "no strace" if forks is None else f"{forks:,}", spread([pair[0] for pair in written], "{:,.0f}"),
                     spread([pair[1] for pair in written], "{:,.0f}"), spread(times, "{:.3f}") if times else ""])
    table(f"{title}, {pairs} times", ["agents", "CPU ms", "per agent", "per further agent", "processes",
                                      "bytes written", "of them to a disk", "s to its POST"], rows)


def costs(sandbox, binary, count, rounds, posts, pairs):
    """Returns what one round costs: the difference between a daemon that had so many more, and one that had none."""
    pause = 0 if posts else 1
    made = scripts(count, sandbox.path("calls"))
    cpu, written, times, forks = [], [], [], None
    with fleet(sandbox, binary, made, check_interval=pause) as (meta, command):
        for _ in range(pairs):
            begin = run_rounds(sandbox, meta, command, 0, posts)
            whole = run_rounds(sandbox, meta, command, rounds, posts)
            cpu.append((whole[0] - begin[0]) / rounds * 1000)
            written.append(whole[1])
            times += whole[2]
        if shutil.which("strace"):
            forks = count_forks(sandbox, meta, command, posts)
    return cpu, written, times, forks


def print_times(sandbox, binary, pairs):
    """Prints how long a check takes whose scripts take 0.2 s, against one agent in the same run."""
    rows, one = [], None
    for count in (1, 100, 1000):
        made = scripts(count, sandbox.path("calls"), "sleep 0.2")
        with fleet(sandbox, binary, made, check_interval=0) as (meta, command):
            times = run_rounds(sandbox, meta, command, pairs, True)[2]
        one = one or sorted(times)[len(times) // 2]
        rows.append([f"{count:,}", spread(times, "{:.3f}"), spread([took / one for took in times])])
    table(f"A check with scripts of 0.2 s, {pairs} times", ["agents", "s to its POST", "ratio to one agent"], rows)
