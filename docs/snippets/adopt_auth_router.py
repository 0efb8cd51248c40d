"""Sign-in routes under a second prefix."""

from fastapi import FastAPI

from appkit import AppKit, auth_router

app = FastAPI()
kit = AppKit()
kit.install(app)
app.include_router(auth_router, prefix="/account")  # POST /account/auth/signin and the others
