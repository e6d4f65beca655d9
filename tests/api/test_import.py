"""`import fct_ray` stays light, and offers what it says."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fct_ray

HEAVY = {"ray", "torch", "faiss", "numpy", "pyarrow", "s3fs", "pydantic", "tyro"}


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, fct_ray; print(sorted({HEAVY!r} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize("name", fct_ray.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(fct_ray, name)
    assert name == "__version__" or value.__doc__


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'upgrad'"):
        fct_ray.upgrad  # noqa: B018
