"""One thread computes: answers of all clients advance together, a token a step, and each may come and go."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import torch

from tasks.evaluate import generation
from tasks.serve.loaded import Loaded
from tasks.serve.requests import Refusal
from tasks.serve.slots import Slots


class End(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    TIME = "time"
    GONE = "gone"
    FAILED = "failed"


@dataclass(eq=False)
class Job:
    """An answer in the making. `tell` is called in the worker's thread after each token, and with its end.

    `encode` gives the prompt's tokens for a version, `loaded` is the one that they are for.
    """

    encode: Callable[[Loaded], list[int]]
    loaded: Loaded
    prompt: list[int]
    limit: int
    deadline: float
    tell: Callable[["Job"], None]
    answer: list[int] = field(default_factory=list)
    end: End | None = None
    gone: bool = False

    def over(self, now: float) -> End | None:
        """Why it ends before any further token, if it does."""
        return End.GONE if self.gone else End.TIME if now > self.deadline else None


class Worker(threading.Thread):
    """Computes with the model that was handed over last; a new one takes over when no answer is open."""

    def __init__(self, loaded: Loaded, together: int, room: int, waiting: int) -> None:
        super().__init__(name="worker", daemon=True)
        self.loaded, self.together, self.room, self.most_waiting = loaded, together, room, waiting
        self.counts: Counter[str] = Counter()
        self.open: list[Job] = []
        self._next: Loaded | None = None
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._ended = False

    def submit(self, job: Job) -> bool:
        """Hand over an answer to make; false where too many wait already."""
        with self._changed:
            if len(self._waiting) >= self.most_waiting:
                return False
            self._waiting.append(job)
            self._changed.notify()
        return True

    def swap(self, loaded: Loaded) -> None:
        """Let another model take over; answers that are open are finished by the one that began them."""
        with self._changed:
            self._next = loaded
            self._changed.notify()

    def stop(self) -> None:
        """End the thread after its step."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    @property
    def waiting(self) -> int:
        """How many answers wait for a place."""
        return len(self._waiting)

    def run(self) -> None:
        """Until the end: take what waits, and advance what is open."""
        while not self._ended:
            with self.loaded.engine.plain_attention(), torch.inference_mode():
                self._compute(Slots(self.together, self.room, self.loaded.engine.device))
            with self._changed:
                if self._next is not None:
                    self.loaded, self._next = self._next, None
                    self.counts["swaps"] += 1

    def _compute(self, slots: Slots) -> None:
        """Work with one model, until another is to take over and no answer is open."""
        while not self._ended and (self._next is None or self.open):
            try:
                joined = self._take()
                if joined:
                    slots.join([len(job.prompt) for job in joined])
                    self.open += joined
                    prompts = [job.prompt for job in joined]
                    self._advance(slots, joined, generation.read(self.loaded.engine, prompts, slots))
                elif self.open:
                    last = torch.tensor([job.answer[-1] for job in self.open], device=slots.lengths.device)
                    self._advance(slots, list(self.open), generation.step(self.loaded.engine, last, slots))
            except RuntimeError as error:  # torch's, of memory for instance: these answers are lost, the server is not
                print(f"a step failed: {type(error).__name__}", flush=True)
                self._fail(slots)

    def _take(self) -> list[Job]:
        """Those that wait, as far as there are places; waits itself where there is nothing to do."""
        with self._changed:
            while not (self._waiting or self.open or self._next or self._ended):
                self._changed.wait()
            taken: list[Job] = []
            while self._waiting and self._next is None and len(self.open) + len(taken) < self.together:
                job = self._waiting.popleft()
                if reason := job.over(time.monotonic()) or self._renewed(job):
                    self._finish(job, reason)
                else:
                    taken.append(job)
            return taken

    def _renewed(self, job: Job) -> End | None:
        """Let a job that waited while the version changed have the prompt for this one; its end where it has none."""
        if job.loaded is not self.loaded:
            try:
                job.prompt, job.loaded = job.encode(self.loaded), self.loaded
            except Refusal:  # longer in the new version's template
                return End.FAILED
        return None

    def _advance(self, slots: Slots, jobs: list[Job], logits: torch.Tensor) -> None:
        """Give each of these answers its next token; those that end leave."""
        now = time.monotonic()
        for job, token in zip(jobs, logits.argmax(1).tolist(), strict=True):
            if token in self.loaded.ends:
                job.end = End.STOP
            else:
                job.answer.append(token)
                job.end = job.over(now) or (End.LENGTH if len(job.answer) >= job.limit else None)
            self.counts["tokens"] += 1
        for job in jobs:
            if job.end is not None:
                place = self.open.index(job)
                slots.leave(place)
                self.open[place] = self.open[-1]
                self.open.pop()
                self._finish(job, job.end)
            else:
                job.tell(job)

    def _finish(self, job: Job, end: End) -> None:
        job.end = end
        self.counts[f"ended_{end}"] += 1
        job.tell(job)

    def _fail(self, slots: Slots) -> None:
        for job in self.open:
            self._finish(job, End.FAILED)
        self.open.clear()
        slots.clear()
