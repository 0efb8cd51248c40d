"""Snippets of the pages on pagination and CRUD."""

import sqlite3

import pytest

pytestmark = pytest.mark.slow  # A server is started for each test.
ACCOUNT = {"email": "ada@example.com", "password": "correct horse battery"}
POSTS = [
    ("Slow bread", "Flour and time.", "food", "2026-01-01 00:00:00.000000"),
    ("Night train", "Slow, and on time.", "travel", "2026-01-02 00:00:00.000000"),
    ("A draft", "Not yet.", "food", None),
]


def test_books_are_created_and_listed(folder, serve):
    with serve(folder("crud"), "crud:app") as browser:
        assert browser.get("/api/books").json()["total"] == 0
        assert browser.post("/api/books", json={"isbn": "1", "title": "Sea"}).status_code == 401
        assert browser.post("/api/auth/signup", json=ACCOUNT).status_code == 201
        book = browser.post("/api/books", json={"isbn": "1", "title": "Sea"}).json()
        address = f"/api/books/{book['id']}"
        assert (book["on_loan"], book["version"]) == (False, 1)
        assert browser.post("/api/books", json={"isbn": "1", "title": "Again"}).json()["errors"][0]["field"] == "isbn"

        assert browser.patch(address, json={"on_loan": True, "version": 1}).json()["version"] == 2
        assert browser.patch(address, json={"title": "Lake", "version": 1}).json()["internal_code"] == 40952
        assert browser.get("/api/books?title=SEA&on_loan=true&sort=title").json()["total"] == 1
        assert browser.get("/api/books?on_loan=false").json()["items"] == []

        assert browser.delete(address).json()["internal_code"] == 40901
        browser.patch(address, json={"on_loan": False})
        assert browser.delete(address).status_code == 204
        assert browser.get(address).status_code == 404
        assert browser.post("/api/books", json={"isbn": "1", "title": "Another copy"}).status_code == 201


def test_parcels_have_a_state_and_addresses(folder, serve):
    address = {"street": "Main", "city": "Oslo"}
    with serve(folder("columns"), "columns:app") as browser:
        parcel = browser.post("/api/parcels", json={"size": "small", "address": address}).json()
        stops = [{"street": "Harbour", "city": "Oslo"}]
        assert parcel == {"id": parcel["id"], "size": "small", "address": address, "state": "packed", "stops": stops}
        assert browser.get("/api/parcels?state=packed&state=sent").json()["items"] == [parcel]
        assert browser.get("/api/parcels?state=sent").json()["items"] == []
        path, change = f"/api/parcels/{parcel['id']}", {"state": "sent", "stops": [*stops, address]}
        assert browser.patch(path, json=change).json() == parcel | change
        lost = browser.patch(path, json={"state": "lost"}).json()
        assert lost["errors"][0]["message"] == "Choose one of 'packed' or 'sent'."
        homeless = browser.post("/api/parcels", json={"size": "small", "address": {"city": "Oslo"}}).json()
        assert homeless["errors"][0]["field"] == "address.street"


def test_posts_are_paged_filtered_and_found(folder, serve):
    directory = folder("pagination")
    with serve(directory, "pagination:app") as browser:
        with sqlite3.connect(directory / "app.db") as database:
            columns = "id, title, content, topic, published_at"
            values = "lower(hex(randomblob(16))), ?, ?, ?, ?"
            database.executemany(f"INSERT INTO post ({columns}) VALUES ({values})", POSTS)
        database.close()

        def titles(query: str) -> list[str]:
            return [post["title"] for post in browser.get(f"/api/posts{query}").json()["items"]]

        assert set(titles("")) == {"Slow bread", "Night train"}
        assert titles("?topic=food&topic=travel&q=slow+bread&sort=-created,title&size=10") == ["Slow bread"]
        assert titles("?since=2026-01-02T00:00:00Z") == ["Night train"]
        assert titles("/table?sort=-title&size=2") == ["Slow bread", "Night train"]
        first = browser.get("/api/posts?size=1&sort=title").json()
        assert titles(f"?size=1&sort=title&cursor={first['next_cursor']}") == ["Slow bread"]
        assert browser.get(f"/api/posts?sort=created&cursor={first['next_cursor']}").status_code == 422

        refused = browser.get("/api/posts?sort=author.password")
        message = "Sort by title, created. Put - before a name to sort in descending order."
        assert refused.json()["errors"] == [{"field": "sort", "message": message, "type": "value_error"}]
