"""Python programs that print "ready" and wait for a line, so that several of them begin at the same moment."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from tests.support.processes import ROOT

Program = subprocess.Popen[str]


@contextmanager
def ready_programs(
    program: str, arguments: Sequence[Sequence[str]], *, environment: Mapping[str, str] | None = None
) -> Iterator[list[Program]]:
    """Start the program once with each list of arguments, and wait until all are ready. They end with the block."""
    with ExitStack() as ending:
        programs = [
            ending.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", program, *own],
                    cwd=ROOT,
                    env=os.environ if environment is None else environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for own in arguments
        ]
        for one in programs:
            ending.callback(one.kill)
        for one in programs:
            assert next_line(one) == "ready"
        yield programs


def next_line(program: Program) -> str:
    """Return what a program prints next. Raise AssertionError if it has ended."""
    assert program.stdout is not None
    line = program.stdout.readline().strip()
    assert line, "the program has ended"
    return line


def tell_all(programs: Sequence[Program], line: str = "go") -> None:
    """Let the programs begin."""
    for program in programs:
        assert program.stdin is not None
        program.stdin.write(f"{line}\n")
        program.stdin.flush()
