"""Reads the settings, restricts this process, and becomes what they say."""

from __future__ import annotations

import json
import os
import sys

from . import sandbox
from .channel import Channel


def main() -> None:
    """The process."""
    settings = json.loads(sys.argv[1])
    # What the model prints goes where its errors go; nothing of it can get between the frames.
    os.dup2(2, 1)
    channel = Channel.from_standard_input()
    try:
        network = sandbox.restrict(settings["limits"], is_network_open=settings["is_network_open"])
        # The model's imports find what is in its environment, and nothing of ours.
        sys.path[:] = [entry for entry in sys.path if entry != sys.argv[0]]
        if settings["kind"] == "model":
            from . import model

            run = model.load(settings)
        else:
            from . import program

            run = program.load(settings)
    except BaseException as error:
        channel.send({"error": sandbox.in_words(error)})
        raise
    channel.send({"network": network})
    run(channel)


if __name__ == "__main__":
    main()
