"""`amqp://`: a quorum queue for each queue."""

from aio_pika import ExchangeType
from taskiq import AsyncBroker
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue, QueueType

from appkit.core.settings import Settings
from appkit.tasks.publishing import BACKLOG
from appkit.tasks.transports.address import parse_address


def connect(settings: Settings, queue: str) -> AsyncBroker:
    """A quorum queue, which outlives the loss of a node."""
    address = parse_address(settings, queue, "heartbeat", "cafile", "certfile", "keyfile", "no_verify_ssl")
    return AioPikaBroker(
        address.url,
        qos=settings.tasks.concurrency,
        exchange=Exchange(name=address.topic, type=ExchangeType.DIRECT),
        task_queues=[
            Queue(
                name=address.topic,
                type=QueueType.QUORUM,
                # What is too much is dropped rather than kept as dead: workers that hear nothing look themselves.
                arguments={"x-max-length": BACKLOG, "x-dead-letter-routing-key": ""},
            )
        ],
        dead_letter_queue=Queue(name=f"{address.topic}:dead", type=QueueType.QUORUM),
    )
