"""Only appkit's errors, in an app without a kit."""

from fastapi import FastAPI

from appkit import NotFoundException, errors, install_error_handlers


class ShelfNotFoundException(NotFoundException):
    """There is no shelf with this name."""

    internal_code = 40401
    detail = "There is no such shelf."


app = FastAPI()
install_error_handlers(app)


@app.get("/shelves/{name}", responses=errors(ShelfNotFoundException))
async def read_shelf(name: str) -> str:
    raise ShelfNotFoundException
