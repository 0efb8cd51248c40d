async def test_signup_sends_a_mail(client, tasks, mailbox):
    account = {"email": "new@example.com", "password": "correct horse battery staple"}
    assert (await client.post("/api/auth/signup", json=account)).status_code == 201
    assert mailbox == []
    await tasks.run()
    assert [(mail.to, mail.subject) for mail in mailbox] == [("new@example.com", "Welcome to Pilcrow")]
