"""The embedded PostgreSQL and its owner are killed in every order, and share one directory."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from app.database.cluster import Cluster, is_alive
from app.database.embedded import EmbeddedPostgres, embedded_postgres
from app.database.engine import Database, Role
from app.database.errors import DatabaseUnavailable, DatabaseUnfit
from app.database.migrate import upgrade
from postgres_owner import WAIT_S, gone, running_owner, starting_owner


async def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(statement.encode())
        return await cursor.fetchall() if cursor.description else []


async def commit_row(url: str) -> None:
    await execute(url, "create table kept (n int)")
    await execute(url, "insert into kept values (42)")


async def kept_rows(url: str) -> list[tuple[object, ...]]:
    return await execute(url, "select n from kept")


async def until_answers(url: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await execute(url, "select 1")
                return
            except psycopg.OperationalError:
                await asyncio.sleep(0.05)


async def test_a_killed_owner_leaves_no_server_and_loses_no_row(tmp_path: Path) -> None:
    """SIGKILL of the process: its server ends by itself, and a new start finds what was committed."""
    async with running_owner(tmp_path) as owner:
        await commit_row(owner.url)
        postmaster = owner.postmaster()
        await owner.kill()
        await gone(postmaster)
    async with embedded_postgres(tmp_path) as url:
        assert await kept_rows(url) == [(42,)]


async def test_a_start_right_after_a_kill_waits_for_the_old_server(tmp_path: Path) -> None:
    """SIGKILL and restart at once: never two servers on one cluster, and no row lost."""
    async with running_owner(tmp_path) as owner:
        await commit_row(owner.url)
        postmaster = owner.postmaster()
        await owner.kill()
        async with embedded_postgres(tmp_path) as url:
            assert not is_alive(postmaster)
            assert await kept_rows(url) == [(42,)]


async def test_a_start_after_owner_and_server_were_killed_waits_for_left_over_children(tmp_path: Path) -> None:
    """SIGKILL of all that can be found: the server's own children go within moments, then a start works."""
    async with running_owner(tmp_path) as owner:
        await commit_row(owner.url)
        postmaster = owner.postmaster()
        owner.process.kill()
        os.kill(postmaster, signal.SIGKILL)
        await owner.process.wait()
        async with embedded_postgres(tmp_path) as url:
            assert await kept_rows(url) == [(42,)]


async def test_a_pid_that_is_used_again_does_not_stop_a_start(tmp_path: Path) -> None:
    """After a crash in a container, the dead server's pid may be one of our own processes'."""
    async with embedded_postgres(tmp_path) as url:
        await commit_row(url)
        record = Cluster(tmp_path).path / "postmaster.pid"
        left = record.read_text().splitlines()
    left[0] = str(os.getppid())
    record.write_text("\n".join(left) + "\n")
    async with embedded_postgres(tmp_path) as url:
        assert await kept_rows(url) == [(42,)]


async def test_a_killed_server_is_restarted_and_the_pool_goes_on(tmp_path: Path) -> None:
    """kill -9 of the postmaster: calls fail as unavailable, and the same Database works again without being opened."""
    server = EmbeddedPostgres(tmp_path)
    database = Database(pool_size=2)
    try:
        url = await server.start()
        await upgrade(url)
        await database.open(url)
        os.kill(Cluster(tmp_path).running_pid() or 0, signal.SIGKILL)
        slugs: object = None
        async with asyncio.timeout(WAIT_S):
            # Not one answer alone: for some moments the dead server's last backends still give some.
            while Cluster(tmp_path).running_pid() is None or slugs is None:
                try:
                    async with database.role(Role.PLATFORM) as session:
                        slugs = (await session.execute(text("select slug from tenants"))).scalars().all()
                except DatabaseUnavailable:
                    await asyncio.sleep(0.02)
        assert slugs == ["default"]
    finally:
        await database.close()
        await server.stop()


async def test_a_transaction_whose_server_dies_is_reported_as_unavailable(tmp_path: Path) -> None:
    """A statement that was under way ends in DatabaseUnavailable, not in a driver's error."""
    async with embedded_postgres(tmp_path) as url:
        await upgrade(url)
        database = Database(pool_size=1)
        await database.open(url)

        async def die_in_mid_statement() -> None:
            async with database.role(Role.APP) as session:
                os.kill(Cluster(tmp_path).running_pid() or 0, signal.SIGKILL)
                await session.execute(text("select pg_sleep(20)"))

        with pytest.raises(DatabaseUnavailable):
            await die_in_mid_statement()
        await database.close()


async def test_a_frozen_server_holds_no_caller_for_ever(tmp_path: Path) -> None:
    """SIGSTOP of all of it: a call ends as unavailable; after SIGCONT the same Database works again."""
    async with embedded_postgres(tmp_path) as url:
        await upgrade(url)
        database = Database(pool_size=1, checkout_timeout_s=0.2)
        await database.open(url)
        postmaster = Cluster(tmp_path).running_pid() or 0
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        frozen = [postmaster, *map(int, children)]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(DatabaseUnavailable):
                await database.ping()
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        await database.ping()
        await database.close()


async def test_a_second_process_joins_and_leaves_the_server_alone(tmp_path: Path) -> None:
    """`wattos keys` beside `wattos serve`: the same server; its stop does not end it."""
    async with running_owner(tmp_path) as owner:
        await commit_row(owner.url)
        postmaster = owner.postmaster()
        async with embedded_postgres(tmp_path) as url:
            assert await kept_rows(url) == [(42,)]
        assert owner.postmaster() == postmaster
        assert await kept_rows(owner.url) == [(42,)]


@pytest.mark.parametrize("end", ["killed", "stopped"])
async def test_a_process_that_joined_goes_on_with_the_server_when_its_owner_is_gone(tmp_path: Path, end: str) -> None:
    """`wattos worker` beside `wattos serve`: when serve ends, the worker's URL serves again within seconds."""
    async with running_owner(tmp_path) as owner:
        await commit_row(owner.url)
        postmaster = owner.postmaster()
        async with embedded_postgres(tmp_path) as url:
            await (owner.kill() if end == "killed" else owner.stop())
            await gone(postmaster)
            await until_answers(url)
            assert await kept_rows(url) == [(42,)]


async def test_two_that_start_at_once_share_one_new_cluster(tmp_path: Path) -> None:
    """On an empty directory, one makes the cluster and the other joins it."""
    async with starting_owner(tmp_path) as owner, embedded_postgres(tmp_path) as url:
        await owner.read_url()
        assert await execute(url, "select system_identifier from pg_control_system()") == await execute(
            owner.url, "select system_identifier from pg_control_system()"
        )


async def test_a_long_path_with_spaces_is_no_matter(tmp_path: Path) -> None:
    """A socket's path may have 107 bytes, DATA_DIR any number, with spaces, percent signs and umlauts."""
    directory = tmp_path / ("a long path with späces, 50% & more/" * 8)
    async with embedded_postgres(directory) as url:
        await commit_row(url)
        assert await kept_rows(url) == [(42,)]


async def test_an_existing_cluster_starts_fast_and_leaves_nothing_in_the_temporary_directory(tmp_path: Path) -> None:
    """Start-up has 3 s in all: the database takes well under 1.2 of them."""
    async with embedded_postgres(tmp_path):
        pass
    began = time.monotonic()
    async with embedded_postgres(tmp_path):
        assert time.monotonic() - began < 1.2
        assert Cluster(tmp_path).socket_dir.stat().st_mode & 0o777 == 0o700
    assert not Cluster(tmp_path).socket_dir.exists()


async def test_what_a_kill_left_of_a_half_made_cluster_is_removed(tmp_path: Path) -> None:
    """A cluster is moved into place when it is finished, so that half of one is never used."""
    half = tmp_path / "postgres" / "cluster.half"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18")
    async with embedded_postgres(tmp_path) as url:
        await execute(url, "select 1")
    assert not half.exists()


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The reason, and where the log is: in one error that is safe to show."""
    async with embedded_postgres(tmp_path):
        pass
    with pytest.raises(DatabaseUnavailable, match=r"shared_buffers.*postgres\.log"):
        await EmbeddedPostgres(tmp_path, {"shared_buffers": "no"}).start()
    (Cluster(tmp_path).path / "PG_VERSION").write_text("9")
    with pytest.raises(DatabaseUnavailable, match="incompatible"):
        await EmbeddedPostgres(tmp_path).start()


async def test_a_data_directory_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    """No stack trace: choose another DATA_DIR."""
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseUnfit, match="DATA_DIR"):
        await EmbeddedPostgres(tmp_path / "file").start()
