"""Sign-in at a second address, such as an app's users know already."""

from fastapi import FastAPI

from appkit import AppKit, auth_router

app = FastAPI()
kit = AppKit()
kit.install(app)
app.include_router(auth_router, prefix="/account")  # POST /account/auth/signin, and so on
