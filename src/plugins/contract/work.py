"""What the current task works for, a request or a job: every log line meanwhile carries its ids.

Nobody passes it on: a context variable does, to tasks and threads started meanwhile too. Whoever begins a piece of work
(the request log, the job worker) says so with `doing`; whoever finds out the tenant says so with `for_tenant`. Where
nobody began one, all of it does nothing.
"""

from __future__ import annotations

from contextvars import ContextVar
from uuid import UUID

from plugins.contract.ids import shown_id


class Work:
    """One request or job. `fields`: what its log lines carry. For one event loop."""

    __slots__ = ("fields", "has_line", "n_waits", "notes", "waited_s")

    def __init__(self, fields: dict[str, str]) -> None:
        self.fields = fields
        self.waited_s = 0.0
        """How long it waited for models so far."""
        self.n_waits = 0
        self.notes: dict[str, object] = {}
        """What its own line will tell, beside the fields."""
        self.has_line = False
        """Whether there will be such a line."""


_current: ContextVar[Work | None] = ContextVar("work", default=None)


def current_work() -> Work | None:
    return _current.get()


def begin(work: Work) -> None:
    """From here on this task works for `work`, to its end."""
    _current.set(work)


class doing:  # noqa: N801  # reads as what it is: `with doing(work):`
    """While open, this task works for `work`."""

    __slots__ = ("_token", "_work")

    def __init__(self, work: Work) -> None:
        self._work = work

    def __enter__(self) -> None:
        self._token = _current.set(self._work)

    def __exit__(self, *_: object) -> None:
        try:  # noqa: SIM105
            _current.reset(self._token)
        except ValueError:  # a generator may be closed in another context; `suppress` costs 0.4 µs
            pass


def for_tenant(tenant_id: UUID | None) -> None:
    """The credential, or the job, says whose work this is; None: nobody's, as with the administrator's key."""
    work = _current.get()
    if work is not None and tenant_id is not None:
        work.fields["tenant"] = shown_id("ten", tenant_id)


def noted(name: str, value: object) -> bool:
    """`value` stands in the line that ends this work. False where nobody writes one, or it has been told already."""
    work = _current.get()
    if work is None or not work.has_line or name in work.notes:
        return False
    work.notes[name] = value
    return True


def waited_for_model(seconds: float) -> None:
    """So much of the time since the work began was spent on waiting for a model, retries' pauses included."""
    work = _current.get()
    if work is not None:
        work.waited_s += seconds
        work.n_waits += 1


def worked_for_model(seconds: float) -> None:
    """So much of what will be said, or was, to be waiting was work of this process: a client library's own."""
    work = _current.get()
    if work is not None:
        work.waited_s -= seconds
