"""The extra `insights`: the packages for statistics and plots, without which the ten assets load all the same."""

from importlib.util import find_spec

_PACKAGES = ("matplotlib", "numpy", "scipy")


def describe_missing_packages() -> str | None:
    """Return a sentence about the packages of the extra that are not installed; None if all are. Imports none."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if not missing:
        return None
    return (
        f"The insights need {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed. Install "
        "the extra: pip install -c constraints.txt -e '.[insights]'."
    )
