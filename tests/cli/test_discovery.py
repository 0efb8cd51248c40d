from pathlib import Path

import pytest

from appkit.cli.discovery import find_kit
from appkit.exceptions import AppKitError

KIT = "from appkit import AppKit\nkit = AppKit()\n"


@pytest.mark.parametrize("target", ["shop.py", "shop", "shop:kit", "shop.py:kit"])
def test_kit_is_found_by_its_file_or_its_module(folder: Path, target: str) -> None:
    (folder / "shop.py").write_text(KIT)
    found = find_kit(target)
    assert found.kit is found.module.kit
    assert found.app_path == "shop:kit.app"


def test_kit_in_a_package_is_imported_by_its_whole_name(folder: Path) -> None:
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").touch()
    (folder / "shop" / "main.py").write_text(KIT)
    assert find_kit("shop/main.py").module.__name__ == "shop.main"


def test_own_app_of_the_module_is_served(folder: Path) -> None:
    (folder / "shop.py").write_text(KIT + "def app(scope, receive, send): ...\n")
    assert find_kit("shop").app_path == "shop:app"


def test_kit_is_found_by_the_environment_before_pyproject(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "pyproject.toml").write_text('[tool.appkit]\nkit = "first:kit"\n')
    (folder / "first.py").write_text(KIT)
    (folder / "second.py").write_text(KIT)
    assert find_kit().module.__name__ == "first"
    monkeypatch.setenv("APPKIT_KIT", "second:kit")
    assert find_kit().module.__name__ == "second"


def test_kit_is_searched_in_the_usual_files_first(folder: Path) -> None:
    (folder / "other.py").write_text(KIT)
    (folder / "main.py").write_text("")
    (folder / "app.py").write_text(KIT)
    assert find_kit().module.__name__ == "app"


def test_kit_is_found_in_the_only_file_that_creates_one(folder: Path) -> None:
    (folder / "notes.py").write_text("answer = 42\n")
    (folder / "shop.py").write_text(KIT)
    assert find_kit().module.__name__ == "shop"


@pytest.mark.parametrize(
    ("files", "target", "sentence"),
    [
        ({}, None, "There is no AppKit in this folder."),
        ({"a.py": KIT, "b.py": KIT}, None, "More than one file in this folder creates an AppKit: a.py, b.py."),
        ({}, "shop.py", "There is no file shop.py."),
        ({}, "shop", "There is no module 'shop' here."),
        ({"shop.py": ""}, "shop", "shop has no AppKit."),
        ({"shop.py": KIT}, "shop:other", "shop has no AppKit named 'other'."),
        ({"shop.py": KIT + "two = AppKit()\none = kit\ndel kit\n"}, "shop", "more than one AppKit: two, one"),
        ({"shop.py": "x = 1\n1 / 0\n"}, "shop", r"ZeroDivisionError: division by zero \(.*shop.py, line 2\)"),
        ({"shop.py": "x = = 1\n"}, "shop", r"invalid syntax \(.*shop.py, line 1\)"),
        ({"shop.py": "import nothing_like_it\n"}, "shop", "No module named 'nothing_like_it'"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_kit_that_cannot_be_found_is_explained(
    folder: Path, files: dict[str, str], target: str | None, sentence: str
) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(AppKitError, match=sentence):
        find_kit(target)
