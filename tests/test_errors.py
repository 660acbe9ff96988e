from __future__ import annotations

import inspect

from omniwsi import errors


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    tree = errors.__doc__ or ""
    classes = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    drawn = {word for word in tree.replace("─", " ").split() if word in classes}
    assert drawn == classes


def test_exit_statuses() -> None:
    assert errors.SlideError.exit_status == errors.RunError.exit_status == 1
    assert errors.UsageError.exit_status == errors.UnknownTissue.exit_status == errors.WeightsError.exit_status == 2
