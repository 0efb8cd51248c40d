"""What an app does when it starts."""

import gc

import pytest


@pytest.fixture
def database_url(tmp_path):
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.mark.parametrize(("environment", "aside"), [("production", True), ("development", False)])
async def test_garbage_collector_skips_imported_modules_in_production(kit, monkeypatch, environment, aside):
    """Elsewhere apps come and go in one process, and what is set aside is never collected."""
    monkeypatch.setattr(gc, "collect", lambda: 0)  # What other tests left is not this one's to find.
    app = kit.app
    kit.context.settings = kit.settings.model_copy(update={"environment": environment})
    before = gc.get_freeze_count()
    try:
        async with app.router.lifespan_context(app):
            assert (gc.get_freeze_count() > before) is aside
    finally:
        gc.unfreeze()
