"""Reading and decoding in processes of their own, ahead of whoever needs the pictures.

A picture that takes its reader down, or keeps it for a minute, is tried once more by a fresh one and then given up with
that as the reason; all others are read as if nothing had happened.
"""

import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import IO, NamedTuple

from pointland.data.item import Item
from pointland.data.picture import Picture, UnreadablePicture
from pointland.data.reader import LENGTHS, parsed
from pointland.data.source import Source, pictures

PATIENCE = 60.0  # seconds for one picture, and for a reader to start
TRIES = 2
STARTS = 5  # that may fail one after another
INSTEAD = "a source's class must be importable from a module; or read in this process, with --readers 0"
AHEAD = 2  # requests a reader is ahead

Opened = list[tuple[Item, Picture | UnreadablePicture]]


class Request(NamedTuple):
    """Some items of one source.

    Attributes:
        source: Its name among the sources.
        items: What to read.
    """

    source: str
    items: Sequence[Item]


class Readers:
    """Readers of some sources; a context manager, since processes must be ended.

    Args:
        sources: By the name that requests call them.
        size: Height and width that pictures are fitted to.
        n: Processes; 0 reads in two threads of this process.
    """

    def __init__(self, sources: Mapping[str, Source], size: tuple[int, int], n: int) -> None:
        self._sources, self._size = dict(sources), size
        self._threads = ThreadPoolExecutor(max(n, 2 if n == 0 else 1))
        self._all = [_Reader(self._sources, size) for _ in range(n)]
        self._free: SimpleQueue[_Reader] = SimpleQueue()
        for reader in self._all:
            self._free.put(reader)

    def __enter__(self) -> "Readers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reader in self._all:
            reader.close()
        self._threads.shutdown(cancel_futures=True)

    def read(self, requests: Iterable[Request]) -> Iterator[Opened]:
        """Yield what is opened for each request, in order, working on the next few meanwhile."""
        waiting: deque[Future[Opened]] = deque()
        for request in requests:
            waiting.append(self._threads.submit(self._one, request))
            if len(waiting) > AHEAD * max(1, len(self._all)):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _one(self, request: Request) -> Opened:
        if not self._all:
            return list(pictures(self._sources[request.source], request.items, self._size))
        reader = self._free.get()
        try:
            return reader.read(request)
        finally:
            self._free.put(reader)


class _Stopped(Exception):  # noqa: N818  # what happened to a process, not a fault of this one
    """The process died or hangs; the message says which."""


class _Reader:
    """One process, started when first needed."""

    def __init__(self, sources: Mapping[str, Source], size: tuple[int, int]) -> None:
        try:
            self._told = pickle.dumps((dict(sources), size))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(f"the source cannot be sent to reading processes ({error}); {INSTEAD}") from error
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._buffer = bytearray()
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  # until close()

    def read(self, request: Request) -> Opened:
        found: dict[int, Picture | UnreadablePicture] = {
            i: UnreadablePicture(item.fault) for i, item in enumerate(request.items) if item.fault is not None
        }
        waiting = deque(i for i in range(len(request.items)) if i not in found)
        tries = 0
        while waiting:
            self._start()
            try:
                self._ask(request.source, [request.items[i].place for i in waiting])
                while waiting:
                    found[waiting[0]] = self._answer()
                    waiting.popleft()
                    tries = 0
            except _Stopped as stopped:
                self._end()
                if self._closed:
                    raise
                tries += 1
                if tries == TRIES:
                    found[waiting.popleft()] = UnreadablePicture(f"{stopped} on it, {TRIES} times")
                    tries = 0
        return [(item, found[i]) for i, item in enumerate(request.items)]

    def close(self) -> None:
        self._closed = True
        self._end()
        self._complaints.close()

    def _start(self) -> None:
        """Start the process, if there is none; dying before it could read anything, it says nothing of a picture."""
        for failed in range(STARTS):
            if self._process is not None:
                return
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pointland.data.reader"],  # -P: nothing from the working directory
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(os.path.isabs, sys.path))},
                bufsize=0,
            )
            self._buffer.clear()
            try:
                if self._closed:  # meanwhile, from another thread
                    raise _Stopped("the reading process was ended")
                self._write(self._told)
                self._exactly(LENGTHS.size, time.monotonic() + PATIENCE)
            except _Stopped as stopped:
                self._end()
                if self._closed or failed == STARTS - 1:
                    words = self._last_words()
                    raise ValueError(f"no reading process starts: {stopped}; {words}; {INSTEAD}") from stopped

    def _last_words(self) -> str:
        if self._complaints.closed:
            return "it was ended"
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _ask(self, name: str, places: Sequence[str]) -> None:
        self._write(pickle.dumps((name, list(places))))

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[self._pipes()[0].write(view) :]
        except (BrokenPipeError, OSError, ValueError) as error:
            raise _Stopped(self._cause()) from error

    def _answer(self) -> Picture | UnreadablePicture:
        until = time.monotonic() + PATIENCE
        sizes = LENGTHS.unpack(self._exactly(LENGTHS.size, until))
        return parsed(self._exactly(sizes[0], until), self._exactly(sizes[1], until))

    def _exactly(self, n: int, until: float) -> bytes:
        answers = self._pipes()[1]
        poll = select.poll()  # select.select() knows 1,024 files
        poll.register(answers, select.POLLIN)
        while len(self._buffer) < n:
            try:
                ready = poll.poll(1000 * max(0.0, until - time.monotonic()))
                part = answers.read(1 << 20) if ready else None
            except (OSError, ValueError) as error:  # closed from another thread
                raise _Stopped(self._cause()) from error
            if not ready:
                raise _Stopped(f"reading hung for {PATIENCE:.0f} s")
            if not part:
                raise _Stopped(self._cause())
            self._buffer += part
        data = bytes(self._buffer[:n])
        del self._buffer[:n]
        return data

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:  # ended from another thread
            raise _Stopped("the reading process was ended")
        return process.stdin, process.stdout

    def _cause(self) -> str:
        code = None
        if self._process is not None:
            try:
                code = self._process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                return "the reading process closed its pipes"
        name = signal.Signals(-code).name if code is not None and code < 0 else f"code {code}"
        return f"the reading process died ({name})"

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
