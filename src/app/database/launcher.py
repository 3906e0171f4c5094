"""Runs one of PostgreSQL's programs so that it cannot outlive us, and so that root may run it. Standard library only.

`python launcher.py DATA_DIR PROGRAM ARGUMENTS…`; replaces itself by the program.

PostgreSQL refuses to run as root. As root we therefore enter a user namespace in which we are `nobody`: to the kernel
the files stay root's own, so no directory has to be opened to others and no system user is added. Where namespaces are
refused (some containers), the cluster is given to `nobody`, and so are we.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
NOBODY = 65534


def stop_being_root(data_dir: Path, program: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) == 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{NOBODY} 0 1")
        Path("/proc/self/gid_map").write_text(f"{NOBODY} 0 1")
        return
    for entry in (data_dir, *data_dir.rglob("*")):
        os.chown(entry, NOBODY, NOBODY)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    if not (os.access(data_dir, os.W_OK | os.X_OK) and os.access(program, os.X_OK)):
        sys.exit("PostgreSQL must not run as root, and no other user may enter this directory")


def main() -> None:
    parent, data_dir, program, *arguments = sys.argv[1:]
    if os.geteuid() == 0:
        stop_being_root(Path(data_dir), Path(program))
    # After any change of user, which would clear it. SIGINT: fast shutdown, so a killed parent leaves no orphan.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)
    if os.getppid() != int(parent):
        sys.exit("the parent is gone already")
    os.execv(program, [program, *arguments])  # noqa: S606  # no shell is what we want


if __name__ == "__main__":
    main()
