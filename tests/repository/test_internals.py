"""Code that uses private names of other libraries must be checked for each of their new versions."""

from importlib.metadata import version

import pytest
from packaging.version import Version

from appkit.repository import sqlalchemy_internals
from appkit.repository.migrations import alembic_internals

TRIED_WITH = {**sqlalchemy_internals.TRIED_WITH, **alembic_internals.TRIED_WITH}


@pytest.mark.parametrize("package", TRIED_WITH)
def test_internals_were_tried_with_the_installed_version(package):
    assert Version(version(package)) <= Version(TRIED_WITH[package]), (
        f"{package} {version(package)} is newer than {TRIED_WITH[package]}. Compare what sqlalchemy_internals.py and "
        "alembic_internals.py override with its source, run their tests, and raise the version in TRIED_WITH."
    )
