"""No module of appkit imports itself by way of others, be it for type checkers only."""

from graphlib import CycleError, TopologicalSorter

import pytest


def test_imports_form_no_circle() -> None:
    """Imports inside functions and under `TYPE_CHECKING` count. A package's `__init__` is a module like any other."""
    grimp = pytest.importorskip("grimp", reason="import-linter brings it, in the dependency group `lint`")
    graph = grimp.build_graph("appkit", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 100

    try:
        TopologicalSorter(imports).prepare()
    except CycleError as exc:
        pytest.fail(" imports ".join(reversed(exc.args[1])))
