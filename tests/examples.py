"""How many examples of a property a test takes; the quick tests (``-m "not slow"``) take a quarter."""

from hypothesis import settings


def examples(count: int) -> int:
    """``max_examples`` of a test that takes another number than the profile's (tests/conftest.py)."""
    default = settings.default
    assert default is not None
    return count * default.max_examples // 100
