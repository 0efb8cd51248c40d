"""`amqp://`: a quorum queue for each queue."""

from aio_pika import ExchangeType
from taskiq import AsyncBroker
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue, QueueType

from appkit.core.settings import Settings
from appkit.tasks.publisher import BACKLOG
from appkit.tasks.transports import parse_address


def connect(settings: Settings, queue: str) -> AsyncBroker:
    """Make a quorum queue, which survives the loss of a node."""
    address = parse_address(settings, queue, "heartbeat", "cafile", "certfile", "keyfile", "no_verify_ssl")
    return AioPikaBroker(
        address.url,
        qos=settings.tasks.concurrency,
        exchange=Exchange(name=address.topic, type=ExchangeType.DIRECT),
        task_queues=[
            Queue(
                name=address.topic,
                type=QueueType.QUORUM,
                # Drop messages above the limit rather than dead-letter them: workers poll anyway.
                arguments={"x-max-length": BACKLOG, "x-dead-letter-routing-key": ""},
            )
        ],
        dead_letter_queue=Queue(name=f"{address.topic}:dead", type=QueueType.QUORUM),
    )
