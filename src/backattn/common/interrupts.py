"""Keep Ctrl-C away from libraries written in C, which lose a KeyboardInterrupt or take it for damage."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_to(handler: Callable[[], None]) -> Iterator[None]:
    """Call a handler at each Ctrl-C in the block, instead of raising KeyboardInterrupt there.

    Threads other than the main one never receive it, and a handler that a program has set itself is left
    alone: there the block runs as it is.
    """
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not ours:
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: handler())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Delay the KeyboardInterrupt of a Ctrl-C until the block has ended.

    :raises KeyboardInterrupt: in the place of any other exception of the block.
    """
    pressed = threading.Event()
    try:
        with interrupts_to(pressed.set):
            yield
    finally:
        if pressed.is_set():
            raise KeyboardInterrupt
