import pytest
from appkit.exceptions import StaleVersionException

from exceptions import AlreadyPublishedException, NotYourPostException, PostNotFoundException


async def test_post_starts_as_a_draft_with_its_author(auth_client):
    answer = await auth_client.post("/api/posts", json={"title": "  A title ", "content": "Words"})
    post = answer.json()
    assert answer.status_code == 201
    assert post["title"] == "A title"
    assert post["author"]["name"] == "user"
    assert (post["published_at"], post["comment_count"], post["subtitle"]) == (None, 0, None)


async def test_post_requires_sign_in(client):
    assert (await client.post("/api/posts", json={"title": "A", "content": "B"})).status_code == 401
    assert (await client.get("/api/posts/mine")).status_code == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"title": " ", "content": "B"}, "title"),
        ({"title": "A" * 201, "content": "B"}, "title"),
        ({"title": "A", "content": ""}, "content"),
        ({"title": "A", "content": "B", "subtitle": "C" * 301}, "subtitle"),
    ],
)
async def test_invalid_post_is_refused_with_errors_by_field(auth_client, body, field):
    answer = await auth_client.post("/api/posts", json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_published_posts_are_paged_newest_first(write, client, count_queries):
    for number in range(5):
        await write(f"Post {number}", publish=True)
    await write("A draft")
    with count_queries(max=1):
        first = (await client.get("/api/posts", params={"size": 3})).json()
    second = (await client.get("/api/posts", params={"size": 3, "cursor": first["next_cursor"]})).json()
    titles = [post["title"] for page in (first, second) for post in page["items"]]
    assert titles == ["Post 4", "Post 3", "Post 2", "Post 1", "Post 0"]
    assert second["next_cursor"] is None


async def test_page_refuses_a_damaged_cursor(client):
    assert (await client.get("/api/posts", params={"cursor": "nonsense"})).status_code == 422


async def test_own_posts_include_drafts(write, auth_client):
    await write("Published", publish=True)
    await write("Draft")
    mine = (await auth_client.get("/api/posts/mine")).json()["items"]
    assert [post["title"] for post in mine] == ["Draft", "Published"]


async def test_draft_is_visible_to_its_author_only(write, auth_client, other, assert_error):
    url = f"/api/posts/{(await write())['id']}"
    assert (await auth_client.get(url)).status_code == 200
    for method, path in [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/publish"), ("GET", "/comments")]:
        answer = await other.request(method, url + path, json={} if method == "PATCH" else None)
        assert_error(answer, PostNotFoundException)


async def test_published_post_can_be_changed_by_its_author_only(write, auth_client, other, assert_error):
    url = f"/api/posts/{(await write(publish=True))['id']}"
    assert (await other.get(url)).status_code == 200
    assert_error(await other.patch(url, json={"title": "Mine now"}), NotYourPostException)
    assert_error(await other.delete(url), NotYourPostException)

    changed = (await auth_client.patch(url, json={"title": "Still mine"})).json()
    assert (changed["title"], changed["content"]) == ("Still mine", "Some *words*.")
    assert changed["updated_at"] > changed["created_at"]


async def test_change_can_clear_the_subtitle_but_not_the_title(write, auth_client):
    url = f"/api/posts/{(await write())['id']}"
    await auth_client.patch(url, json={"subtitle": "A subtitle"})
    assert (await auth_client.patch(url, json={"subtitle": None})).json()["subtitle"] is None
    assert (await auth_client.patch(url, json={"title": None})).status_code == 422


async def test_post_cannot_be_published_twice(write, auth_client, assert_error):
    post = await write(publish=True)
    assert post["published_at"] is not None
    assert_error(await auth_client.post(f"/api/posts/{post['id']}/publish"), AlreadyPublishedException)


async def test_deleting_a_post_deletes_its_comments(write, auth_client, assert_error):
    url = f"/api/posts/{(await write(publish=True))['id']}"
    await auth_client.post(f"{url}/comments", json={"content": "Words"})
    assert (await auth_client.delete(url)).status_code == 204
    assert_error(await auth_client.get(url), PostNotFoundException)


async def test_own_posts_are_searched_filtered_and_sorted_in_the_database(write, auth_client, count_queries):
    for title in ("Tide tables", "bread", "Radios"):
        await write(title, content=f"All about {title}.", publish=title != "bread")
    await auth_client.patch(f"/api/posts/{(await write('Radio waves'))['id']}", json={"subtitle": "Short ones"})

    async def titles(**query: object) -> tuple[list[str], int]:
        with count_queries(max=8):
            page = (await auth_client.get("/api/posts/mine", params=query)).json()
        return [post["title"] for post in page["items"]], page["total"]

    assert await titles(sort="title", size=2) == (["bread", "Radio waves"], 4)
    assert await titles(sort="title", size=2, page=2) == (["Radios", "Tide tables"], 4)
    assert await titles(sort="-title", published="true") == (["Tide tables", "Radios"], 2)
    assert await titles(q="about bread") == (["bread"], 1)
    assert await titles(q="short") == (["Radio waves"], 1)
    refused = await auth_client.get("/api/posts/mine", params={"sort": "author_id"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "sort")


async def test_readers_search_published_posts(write, client):
    await write("Found", content="A lighthouse.", publish=True)
    await write("Draft", content="Another lighthouse.")
    found = (await client.get("/api/posts", params={"q": "LIGHTHOUSE"})).json()["items"]
    assert [post["title"] for post in found] == ["Found"]


async def test_figures_count_posts_and_comments(write, auth_client, other):
    await write("Draft")
    post = await write("Published", publish=True)
    await other.post(f"/api/posts/{post['id']}/comments", json={"content": "Good."})
    figures = {"drafts": 1, "published": 1, "comments": 1}
    assert (await auth_client.get("/api/posts/mine/figures")).json() == figures
    assert (await other.get("/api/posts/mine/figures")).json() == {"drafts": 0, "published": 0, "comments": 0}


async def test_change_to_an_older_version_is_refused(write, auth_client, assert_error):
    post = await write()
    url = f"/api/posts/{post['id']}"
    first = await auth_client.patch(url, json={"title": "One window", "version": post["version"]})
    assert first.json()["version"] > post["version"]
    assert_error(
        await auth_client.patch(url, json={"title": "Another", "version": post["version"]}), StaleVersionException
    )
    assert (await auth_client.get(url)).json()["title"] == "One window"
