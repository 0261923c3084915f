"""A reading process: ``python -m pointland.data.reader``, started and fed by :mod:`pointland.data.readers`.

Pictures are hostile until decoded. One that crashes or hangs its decoder takes this process down and nothing else. It
gets its sources pickled, from its parent; what it answers is read as data alone: a length, JSON, and pixels.
"""

import json
import os
import pickle
import signal
import struct
import sys
from typing import BinaryIO

import numpy as np

from pointland.data.picture import Picture, UnreadablePicture, picture_or_reason
from pointland.data.source import contents

LENGTHS = struct.Struct("<II")  # of the JSON and of the pixels


def main() -> None:
    """Answer requests for pictures until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get among the answers
    sources, size = pickle.load(sys.stdin.buffer)
    answers.write(LENGTHS.pack(0, 0))  # ready: from here on what happens is the picture's doing
    answers.flush()
    while True:
        try:
            name, places = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        for data in contents(sources[name], places):
            write(answers, picture_or_reason(data, size))


def write(stream: BinaryIO, answer: Picture | UnreadablePicture) -> None:
    """Write one answer."""
    if isinstance(answer, Picture):
        head: dict[str, object] = {**answer._asdict(), "pixels": answer.pixels.shape}
        body = answer.pixels.tobytes()
    else:
        head, body = {"reason": str(answer)}, b""
    text = json.dumps(head).encode()
    stream.write(LENGTHS.pack(len(text), len(body)) + text + body)
    stream.flush()


def parsed(text: bytes, body: bytes) -> Picture | UnreadablePicture:
    """Read one answer back."""
    head = json.loads(text)
    if "reason" in head:
        return UnreadablePicture(head["reason"])
    return Picture(**{**head, "pixels": np.frombuffer(body, np.uint8).reshape(head["pixels"])})


if __name__ == "__main__":
    main()
