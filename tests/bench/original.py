"""Figures of the original Go updater. This program does not run it: they were measured elsewhere, on another day."""

import sandbox

FIGURES = {
    "checks": [("processes a heartbeat and agent, through sudo", "38"),
               ("processes a heartbeat and agent, its own user", "11")],
    "idle": [("RSS after 350 heartbeats", "12–13 MB")],
    "outage": [("outage of an upgrade, tiny", "3.1 s"),
               ("outage of an upgrade, 50 MB", "3.8 s"),
               ("outage of an upgrade, 50 MB at 10 MiB/s", "8.9 s"),
               ("outage of an upgrade, 50 MB at 1 MiB/s", "53.6 s"),
               ("ten fresh agents, started", "32 s")],
    "sizes": [("binary", "8.7 MB"), ("binary, stripped", "6.0 MB")],
}


def table(section):
    sandbox.table("The original updater, measured elsewhere", ["", ""], FIGURES[section])
