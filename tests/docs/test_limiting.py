"""The pages on the cache and on rate limits do what they say."""

import sqlite3

import pytest

pytestmark = pytest.mark.slow  # A server is started for each test.
ACCOUNT = {"email": "ada@example.com", "password": "correct horse battery"}


def test_front_page_is_kept_until_a_post_is_added(folder, serve):
    directory = folder("cache")
    with serve(directory, "cache:app") as browser:
        assert browser.get("/api/posts").json() == []
        assert browser.post("/api/posts", json={"title": "One"}).status_code == 201
        assert browser.get("/api/posts").json() == [{"title": "One"}]

        with sqlite3.connect(directory / "app.db") as database:
            database.execute("UPDATE post SET title = 'Behind its back'")
        database.close()
        assert browser.get("/api/posts").json() == [{"title": "One"}]

        browser.post("/api/posts", json={"title": "Two"})
        assert browser.get("/api/posts").json() == [{"title": "Two"}, {"title": "Behind its back"}]


def test_limits_count_for_addresses_people_and_failures(folder, serve):
    with serve(folder("rate_limits"), "rate_limits:app") as browser:
        searches = [browser.get("/api/search?q=pl") for _ in range(31)]
        assert [answer.status_code for answer in searches] == [200] * 30 + [429]
        assert 1 <= int(searches[-1].headers["retry-after"]) <= 60

        assert browser.post("/api/exports").status_code == 401
        assert browser.post("/api/auth/signup", json=ACCOUNT).status_code == 201
        assert [browser.post("/api/exports").status_code for _ in range(6)] == [200] * 5 + [429]

        tries = ["A", "B", "SPRING", "C", "D", "E", "SPRING"]
        answers = [browser.post("/api/vouchers", json={"code": code}).status_code for code in tries]
        assert answers == [400, 400, 200, 400, 400, 400, 429]
