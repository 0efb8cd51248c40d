import pytest
from bookmarks import (
    AlreadyBookmarkedException,
    BookmarkAdded,
    BookmarkService,
    BookmarksSettings,
    TooManyBookmarksException,
)

from appkit import NotFoundException


# --8<-- [start:route]
async def test_bookmark_is_unique(auth_client, assert_error):
    added = await auth_client.post("/api/bookmarks", json={"url": "https://example.com"})
    assert added.status_code == 201
    again = await auth_client.post("/api/bookmarks", json={"url": "https://example.com"})
    assert_error(again, AlreadyBookmarkedException)


# --8<-- [end:route]
# --8<-- [start:service]
async def test_adding_emits_an_event(db, user, events):
    bookmark = await BookmarkService(db).add(user.id, "https://example.com")
    await db.commit()
    assert BookmarkAdded(bookmark_id=bookmark.id) in events


# --8<-- [end:service]
async def test_bookmarks_are_listed_latest_first(auth_client, count_queries):
    for number in range(3):
        await auth_client.post("/api/bookmarks", json={"url": f"https://example.com/{number}"})
    with count_queries(max=2):
        page = (await auth_client.get("/api/bookmarks", params={"size": 2})).json()
    assert [item["url"] for item in page["items"]] == ["https://example.com/2", "https://example.com/1"]
    assert page["next_cursor"] is not None


# --8<-- [start:strangers]
async def test_bookmark_of_another_user_is_not_found(auth_client, client, make_user, assert_error):
    bookmark = (await auth_client.post("/api/bookmarks", json={"url": "https://example.com"})).json()
    stranger = {"email": "stranger@example.com", "password": "correct horse battery"}
    await make_user(stranger["email"], stranger["password"])
    await client.post("/api/auth/signin", json=stranger)
    assert_error(await client.delete(f"/api/bookmarks/{bookmark['id']}"), NotFoundException)
    assert (await auth_client.delete(f"/api/bookmarks/{bookmark['id']}")).status_code == 204


# --8<-- [end:strangers]
# --8<-- [start:settings]
class TestWithALimitOfOne:
    @pytest.fixture
    def settings(self, settings):
        return settings.model_copy(update={"bookmarks": BookmarksSettings(limit=1)})

    async def test_limit_refuses_another_bookmark(self, auth_client, assert_error):
        await auth_client.post("/api/bookmarks", json={"url": "https://example.com/1"})
        second = await auth_client.post("/api/bookmarks", json={"url": "https://example.com/2"})
        assert_error(second, TooManyBookmarksException)


# --8<-- [end:settings]
# --8<-- [start:tasks]
async def test_title_is_fetched(auth_client, tasks, monkeypatch):
    monkeypatch.setattr("bookmarks.read_title", lambda _: "Example Domain")
    await auth_client.post("/api/bookmarks", json={"url": "https://example.com"})
    await tasks.run()
    (bookmark,) = (await auth_client.get("/api/bookmarks")).json()["items"]
    assert bookmark["title"] == "Example Domain"


# --8<-- [end:tasks]
async def test_all_bookmarks_are_deleted_after_a_recent_sign_in(auth_client):
    await auth_client.post("/api/bookmarks", json={"url": "https://example.com"})
    assert (await auth_client.delete("/api/bookmarks")).status_code == 204
    assert (await auth_client.get("/api/bookmarks")).json()["items"] == []
