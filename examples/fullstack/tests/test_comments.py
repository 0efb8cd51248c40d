from exceptions import NotPublishedException


async def test_comments_are_counted_and_read_oldest_first(write, other, client):
    url = f"/api/posts/{(await write(publish=True))['id']}"
    for content in ("First", "Second"):
        assert (await other.post(f"{url}/comments", json={"content": content})).status_code == 201
    comments = (await client.get(f"{url}/comments")).json()["items"]
    assert [(comment["content"], comment["author"]["name"]) for comment in comments] == [
        ("First", "else"),
        ("Second", "else"),
    ]
    assert (await client.get(url)).json()["comment_count"] == 2


async def test_comment_requires_sign_in(write, client):
    post = await write(publish=True)
    assert (await client.post(f"/api/posts/{post['id']}/comments", json={"content": "A"})).status_code == 401


async def test_draft_accepts_no_comments(write, auth_client, assert_error):
    post = await write()
    answer = await auth_client.post(f"/api/posts/{post['id']}/comments", json={"content": "To myself"})
    assert_error(answer, NotPublishedException)
