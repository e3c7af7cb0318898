"""SIGTERM and Ctrl-C while training: the step ends, a checkpoint is written, and the command says how to go on."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tasks.errors import UserError

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StoppedError(UserError):
    """The run was told to stop before its end."""


class Stop:
    """Whether someone asked the run to stop; `asked` is the signal's name, empty before."""

    def __init__(self) -> None:
        self.asked = ""
        self._deferring = False

    @contextmanager
    def after_the_step(self) -> Iterator[None]:
        """Within the block a first signal is noted, for the step to end; else, and with a second one, it ends at once.

        Raises StoppedError out of the block.
        """
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """A signal has come."""
        name = signal.Signals(number).name
        if self.asked or not self._deferring:
            raise StoppedError(f"stopped by {name}; run the same command again: it goes on from its last checkpoint")
        self.asked = name
        print(f"{name}: the run stops after this step and its checkpoint; once more stops it at once", flush=True)


@contextmanager
def listening() -> Iterator[Stop]:
    """Take the signals over for the block; outside of it they mean what they meant before."""
    stop = Stop()
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
