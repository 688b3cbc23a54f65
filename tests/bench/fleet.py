"""A daemon with agents that are installed already, the ops-meta that it reports to, and what its processes cost."""

import contextlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import threading
import time

from sandbox import finish, wait_for

# An interval at which nothing is due while it is measured, in seconds.
NEVER = 86400


class Meta:
    """Answers each heartbeat with the entries, and notes when it did."""

    def __init__(self):
        self.entries = []
        self.asked = []
        self.answered = []
        meta = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                meta.asked.append(time.monotonic())
                body = json.dumps({"errorMessage": "", "desiredAgents": meta.entries}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                meta.answered.append(time.monotonic())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    @property
    def address(self):
        return f"127.0.0.1:{self.server.server_port}"


class Calls:
    """What control scripts write to a FIFO, with the time when it came. A script needs a process for date(1), but not for this."""

    def __init__(self, path):
        self.path = path
        self.seen = []
        if not os.path.exists(path):
            os.mkfifo(path)
        # Opened for writing too: it does not end when a script ends, and no script waits for a reader.
        self.fifo = os.fdopen(os.open(path, os.O_RDWR), "rb", buffering=0)
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        # On a busy machine a line must not wait until the next one has come too. Without root it may.
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -20)
        while lines := self.fifo.read(65536).splitlines():
            now = time.monotonic()
            for line in lines:
                if line == b"end":
                    return
                self.seen.append((now, line.decode()))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with open(self.path, "w", encoding="ascii") as fifo:
            fifo.write("end\n")
        self.thread.join()
        self.fifo.close()

    def count(self, text):
        return sum(1 for _, line in self.seen if line == text)


class Daemon:
    """A running daemon. Leaving the `with` block ends it, and waits for its workers: one between two versions stays longer."""

    def __init__(self, sandbox, command):
        self.began = time.monotonic()
        with open(sandbox.path("log"), "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.pid = self.process.pid
        # Until then the signal that asks for a heartbeat would end it.
        wait_for("the daemon to catch signals", self.catches_usr1)

    def catches_usr1(self):
        with open(f"/proc/{self.pid}/status", encoding="utf-8") as file:
            caught = next(line.split()[1] for line in file if line.startswith("SigCgt:"))
        return int(caught, 16) >> (signal.SIGUSR1 - 1) & 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.returncode is None:
            workers = self.workers()
            self.end()
            wait_for("the workers to end", lambda: not any(map(arguments, workers)))

    def end(self):
        """Ends it, and returns the cost of it and of all that it has waited for."""
        # Not by `terminate`, which would reap it if it has ended, and lose its cost.
        os.kill(self.pid, signal.SIGTERM)
        return finish(self.process, self.began)

    def sync(self):
        """Lets it send the next heartbeat now."""
        os.kill(self.pid, signal.SIGUSR1)

    def workers(self, role=None):
        """Returns the pids of its workers."""
        with open(f"/proc/{self.pid}/task/{self.pid}/children", encoding="ascii") as file:
            children = map(int, file.read().split())
            return [pid for pid in children if role is None or role in arguments(pid)]

    def rest(self):
        """Waits until no worker is left."""
        wait_for("the workers to end", lambda: not self.workers())

    def written(self):
        """Returns the bytes that it and its workers gave to write(2), and those that go to a disk."""
        found = fields(f"/proc/{self.pid}/io")
        return found["wchar"], found["write_bytes"]

    def wakeups(self):
        """Returns how often it has slept."""
        return fields(f"/proc/{self.pid}/status")["voluntary_ctxt_switches"]


def arguments(pid):
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
            return file.read().split("\0")
    except OSError:
        return []


def fields(path):
    """Returns the numbers of a file in /proc that has a name before each."""
    found = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            name, _, rest = line.partition(":")
            words = rest.split()
            if words and words[0].isdecimal():
                found[name] = int(words[0])
    return found


def memory(pid):
    """Returns memory of a process in KB: resident, private, and private and written. None if it has ended."""
    try:
        found = fields(f"/proc/{pid}/smaps_rollup")
    except OSError:
        return None
    if "Rss" not in found:
        return None
    return found["Rss"], found["Private_Clean"] + found["Private_Dirty"], found["Private_Dirty"]


@contextlib.contextmanager
def fleet(sandbox, binary, scripts, **config):
    """Lays agents with these control scripts as an earlier daemon would have left them, and an ops-meta that desires them.

    Returns the ops-meta and the command of the daemon.
    """
    meta = Meta()
    command, own = sandbox.updater(binary, {"server": meta.address, "interval": NEVER, **config})
    work = sandbox.unused("work")
    try:
        meta.entries = [sandbox.desired(name, "1.0.0", work=work) for name in scripts]
        for name, script in scripts.items():
            lay(sandbox, os.path.join(os.path.basename(work), name), name, script)
        with open(f"{own}/desired_agent.json", "w", encoding="utf-8") as file:
            json.dump(meta.entries, file)
        yield meta, command
    finally:
        meta.close()
        shutil.rmtree(work, ignore_errors=True)


def lay(sandbox, place, name, script):
    sandbox.write(f"{place}/1.0.0/control", script, 0o755)
    receipt = {"name": name, "version": "1.0.0", "md5": "0" * 32, "size": 1, "url": "http://x/", "time": 1}
    sandbox.write(f"{place}/1.0.0/.receipt.json", json.dumps(receipt))
    sandbox.write(f"{place}/.version", "1.0.0")
    os.mkdir(sandbox.path(f"{place}/.updater"))
