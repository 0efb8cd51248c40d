"""Only a durable broker. `taskiq worker adopt_broker:broker` runs the tasks."""

from pathlib import Path

from appkit import Settings, create_broker

broker = create_broker(Settings())


@broker.task
def count_words(path: str) -> None:
    text = Path(path).read_text()
    Path(path).with_suffix(".count").write_text(f"{len(text.split())}")


async def enqueue(path: str) -> None:
    await broker.startup()
    await count_words.kiq(path)
    await broker.shutdown()
