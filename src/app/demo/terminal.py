"""How the demo looks: pleasant on a terminal, plain lines when piped."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

NUSD_PER_USD = 1_000_000_000


class ShowProgress(Protocol):
    """Called with what is being done and how far it is."""

    def __call__(self, what: str, done: int, total: int) -> None: ...


class Terminal:
    """Everything the demo prints. Without a terminal: no colour, no cursor movement, one line an event."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    def title(self, text: str) -> None:
        self.console.print(f"\n[bold cyan]{text}[/]")

    def line(self, text: str, style: str = "") -> None:
        self.console.print(text, style=style or None, markup=False)

    def good(self, text: str) -> None:
        self.console.print(f"[green]✓[/] {_escaped(text)}")

    def bad(self, text: str) -> None:
        self.console.print(f"[red]✗[/] {_escaped(text)}")

    def piece(self, text: str) -> None:
        """A piece of a streamed answer, as it comes."""
        self.console.print(text, end="", markup=False, soft_wrap=True)

    @contextmanager
    def progress(self) -> Generator[ShowProgress]:
        if not self.console.is_terminal:
            shown: set[str] = set()

            def plain(what: str, done: int, total: int) -> None:
                if what not in shown:
                    shown.add(what)
                    self.line(f"  {what}")

            yield plain
            return
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console) as bar:
            task = bar.add_task("", total=None)

            def update(what: str, done: int, total: int) -> None:
                bar.update(task, description=what, completed=done, total=total or None)

            yield update


def shown_cost(nusd: int | None) -> str:
    """`$0.000123`, or that no price is known."""
    return "no known price" if nusd is None else f"${nusd / NUSD_PER_USD:.6f}"


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
