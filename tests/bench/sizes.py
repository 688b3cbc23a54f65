"""The sizes of the binaries that were built."""

import os

import original
from sandbox import ROOT, table

TARGETS = {"i686-unknown-linux-musl": "linux_386", "x86_64-unknown-linux-musl": "linux_amd64",
           "aarch64-unknown-linux-musl": "linux_arm64", "x86_64-apple-darwin": "darwin_amd64"}


def measure(_, binaries, __):
    with open(f"{ROOT}/.ci/budget", encoding="utf-8") as file:
        budget = dict(line.split() for line in file if not line.startswith("#"))
    rows = []
    for path in dict.fromkeys([*binaries, *built()]):
        arch = TARGETS.get(path.split(os.sep)[-3], "")
        limit = f"{int(budget[arch]):,}" if arch else ""
        rows.append([arch or path, f"{os.path.getsize(path):,}", limit])
    table("Sizes in bytes", ["", "stripped binary", "budget"], rows)
    original.table("sizes")


def built():
    """Returns the releases of other archs that a build left here. They may be older than the source."""
    target = os.environ.get("CARGO_TARGET_DIR", f"{ROOT}/target")
    paths = [f"{os.path.abspath(target)}/{triple}/release/ops-updater" for triple in TARGETS]
    return [path for path in paths if os.path.exists(path)]
