"""Settings for all tests."""

from hypothesis import settings

# These machines are shared: a slow example says nothing. The same examples every time, so that a red run can be repeated.
settings.register_profile("shared", deadline=None, derandomize=True)
settings.load_profile("shared")
