"""The forum on the page shows and changes what its profile names, and nothing else."""

ACCOUNT = {"email": "ada@example.com", "password": "correct horse battery"}


def test_profile_is_shown_and_changed_and_goes_with_the_account(folder, serve):
    with serve(folder("profile"), "profile:app") as browser:
        assert browser.post("/api/auth/signup", json=ACCOUNT).status_code == 201
        assert browser.get("/api/auth/me").json()["nickname"] is None
        changed = browser.patch("/api/auth/me", json={"nickname": "ada", "newsletter": True}).json()
        assert (changed["nickname"], changed["newsletter"]) == ("ada", True)
        assert browser.patch("/api/auth/me", json={"newsletter": False}).json()["nickname"] == "ada"
        for refused in ({"karma": 9000}, {"is_superuser": True}, {"nickname": "a" * 41}, {"newsletter": None}):
            assert browser.patch("/api/auth/me", json=refused).status_code == 422
        copy = browser.get("/api/auth/me/export").json()["user"]
        assert (copy["nickname"], copy["karma"], copy["is_superuser"]) == ("ada", 0, False)
        assert browser.delete("/api/auth/me").status_code == 204
        assert browser.get("/api/auth/me").status_code == 401
