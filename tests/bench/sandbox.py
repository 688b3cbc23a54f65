"""A directory with an nginx as release store, and what the sections share: samples of agents, runs with their cost, tables."""

import glob
import hashlib
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ARCH = {"aarch64": "linux_arm64", "i686": "linux_386"}.get(platform.machine(), "linux_amd64")
# Bytes a second that the location /slow sends to one client.
SLOW = 10_000_000

NGINX = """
daemon off; master_process off; pid {dir}/pid; error_log {dir}/errors;
events {{}}
http {{
    access_log off; sendfile on;
    client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
    uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
    server {{
        listen 127.0.0.1:{port};
        root {root};
        location /slow/ {{ alias {root}/; limit_rate {slow}; }}
    }}
}}
"""


class Cost:
    """The cost of a run: seconds of wall time and of processor time."""

    def __init__(self, wall, usage):
        self.wall = wall
        self.cpu = usage.ru_utime + usage.ru_stime


class Sandbox:
    def __enter__(self):
        self.count = 0
        self.dir = tempfile.mkdtemp(prefix="ops-updater-bench-")
        self.www = self.path("www")
        os.makedirs(f"{self.www}/{ARCH}")
        port = free_port()
        conf = NGINX.format(dir=self.dir, port=port, root=self.www, slow=SLOW)
        self.write("nginx.conf", conf)
        command = ["nginx", "-c", self.path("nginx.conf"), "-p", self.dir]
        self.nginx = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.store = f"http://127.0.0.1:{port}"
        wait_for("nginx to listen", lambda: is_open(port))
        return self

    def __exit__(self, *_):
        self.nginx.terminate()
        self.nginx.wait()
        shutil.rmtree(self.dir)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text, mode=0o644):
        """Writes a file of the sandbox, and returns its path."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def fresh(self, name):
        """Returns an empty directory of this name."""
        path = self.path(name)
        shutil.rmtree(path, ignore_errors=True)
        os.mkdir(path)
        return path

    def unused(self, name):
        """Returns a path that no file had before: ext4 searches long for an inode if many were removed a moment ago."""
        self.count += 1
        return self.path(f"{name}.{self.count}")

    def remove(self, name):
        """Removes all paths of this name that `unused` returned."""
        for path in glob.glob(self.path(f"{name}.*")):
            shutil.rmtree(path)

    def publish(self, name, version, tree):
        """Packs the tree as a release, with its .md5 file beside it. Returns the path of the tarball below the store."""
        path = f"{self.www}/{ARCH}/{name}-{version}.tar.gz"
        subprocess.run(["tar", "czf", path, "-C", tree, "."], check=True)
        with open(path, "rb") as tarball:
            digest = hashlib.md5(tarball.read()).hexdigest()
        with open(f"{path}.md5", "w", encoding="ascii") as file:
            file.write(f"{digest}  {os.path.basename(path)}\n")
        return f"{ARCH}/{os.path.basename(path)}"

    def updater(self, binary, config=None):
        """Makes an updater's directory, and returns the command of this binary for it."""
        own = self.fresh("updater")
        text = {"server": "", "hostname": "bench", "log_level": "warn"} | (config or {})
        return [binary, "-c", self.write("updater/cfg.json", json.dumps(text))], own

    def desired(self, name, version, store=None, work=None):
        """Returns an entry of the desired state."""
        return {"name": name, "version": version, "tarball": store or self.store, "md5": "", "cmd": "start",
                "runUser": "", "workDir": work or self.path("work"), "configFileName": "", "configRemoteUrl": ""}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.01)


def run(command, **options):
    """Runs a command to its end, and returns its cost and that of its children."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **options)
    return finish(process, began)


def finish(process, began, wall=None):
    """Waits for a process that began at this time. Returns its cost; `wall` if it took this long to what is measured."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if wall is None and process.returncode != 0:
        raise RuntimeError(f"{process.args} ended with {process.returncode}")
    return Cost(time.monotonic() - began if wall is None else wall, usage)


def spread(values, form="{:.2f}"):
    """Returns the median, and the smallest and the largest value."""
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{form.format(middle)} ({form.format(least)}–{form.format(most)})"


def table(title, head, rows):
    """Prints a table of Markdown."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(head) + " |")
    print("|---" * len(head) + "|")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |", flush=True)
