"""Runs one of PostgreSQL's programs so that it cannot outlive us, and so that root may run it. Standard library only.

`python launcher.py PARENT DIRECTORY… -- PROGRAM ARGUMENT…`; replaces itself by the program. The first directory is the
cluster, the others are those that the program must be able to write to as well.

PostgreSQL refuses to run as root. As root we therefore enter a user namespace in which we are `nobody`: to the kernel
the files stay root's own, so no directory has to be opened to others and no system user is added. Where namespaces are
refused (some containers), the directories are given to `nobody`, and so are we. A cluster that belongs to another user
is run as that user. initdb needs a user that has a name, so the namespace also helps one that has none.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
NOBODY = 65534

REFUSED = "root may not run PostgreSQL, and nobody else can here ({}): run as an ordinary user, or set DATABASE_URL"


def has_a_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def enter_namespace() -> bool:
    """Become `nobody` in a user namespace. Returns: whether that is allowed here."""
    uid, gid = os.geteuid(), os.getegid()
    if ctypes.CDLL(None).unshare(CLONE_NEWUSER) != 0:
        return False
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{NOBODY} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} {gid} 1")
    return True


def become(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def out_of_reach(uid: int, gid: int, paths: list[Path]) -> Path | None:
    """The first path that this user could not enter. Asked in a child, as there is no way back to root."""
    child = os.fork()
    if child == 0:
        become(uid, gid)
        os._exit(next((n for n, path in enumerate(paths, 1) if not os.access(path, os.X_OK)), 0))
    found = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return paths[found - 1] if found else None


def give(directory: Path, uid: int, gid: int) -> None:
    if directory.stat().st_uid != uid:
        for entry in (directory, *directory.rglob("*")):
            os.chown(entry, uid, gid, follow_symlinks=False)


def stop_being_root(directories: list[Path], program: Path) -> None:
    cluster = directories[0].stat()
    if cluster.st_uid == 0 and enter_namespace():
        return
    uid, gid = (cluster.st_uid, cluster.st_gid) if cluster.st_uid != 0 else (NOBODY, NOBODY)
    # Before anything is given away: the directories that hold them must let this user through.
    if closed := out_of_reach(uid, gid, [program, *(directory.parent for directory in directories)]):
        sys.exit(REFUSED.format(f"{closed} is closed to user {uid}"))
    for directory in directories:
        give(directory, uid, gid)
    become(uid, gid)


def main() -> None:
    parent, *words = sys.argv[1:]
    split = words.index("--")
    program, *arguments = words[split + 1 :]
    try:
        if os.geteuid() == 0:
            stop_being_root([Path(word) for word in words[:split]], Path(program))
        elif not has_a_name(os.geteuid()):
            enter_namespace()
    except OSError as exc:
        sys.exit(REFUSED.format(exc.strerror))
    # After any change of user, which would clear it. SIGINT: fast shutdown, so a killed parent leaves no orphan.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)
    if os.getppid() != int(parent):
        sys.exit("the parent is gone already")
    os.execv(program, [program, *arguments])  # noqa: S606  # no shell is what we want


if __name__ == "__main__":
    main()
