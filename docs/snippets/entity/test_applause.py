from exceptions import PostNotFoundException


async def test_applause_counts_each_reader_once(write, auth_client, other):
    url = f"/api/posts/{(await write(publish=True))['id']}/applause"
    counts = [(await reader.post(url)).json()["count"] for reader in (auth_client, auth_client, other)]
    assert counts == [1, 1, 2]


async def test_draft_gets_no_applause_from_others(write, other, assert_error):
    url = f"/api/posts/{(await write())['id']}/applause"
    assert_error(await other.post(url), PostNotFoundException)
