"""How a worker's memory is kept: what an update frees, the next one uses again."""

import ctypes
import logging

_M_TRIM_THRESHOLD = -1  # numbers of /usr/include/malloc.h
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8

_log = logging.getLogger(__name__)


def keep_freed_memory() -> None:
    """Have the C library keep large blocks that are freed, instead of giving them back.

    glibc gives large blocks straight back to the system, so that activations and gradients of every
    update are mapped and zeroed anew, page by page: for 50M parameters under DeepSpeed that was a
    third of an update. A worker asks for the same blocks again at once, so it keeps them. It holds
    what its peak needed until it ends, and of every size a few blocks more (measured: 8 at most).
    All threads share one arena; each would keep blocks of its own otherwise.

    Does nothing where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1, _M_ARENA_MAX: 1}
    if not all(mallopt(parameter, value) for parameter, value in settings.items()):
        _log.warning("the C library did not take the setting that keeps freed memory")
