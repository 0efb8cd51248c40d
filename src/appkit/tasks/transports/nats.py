"""`nats://`: a JetStream stream for each queue. Experimental, because Taskiq's client for it is young."""

import re

from nats.js.api import ConsumerConfig, RetentionPolicy, StreamConfig
from taskiq import AsyncBroker
from taskiq_nats import PullBasedJetStreamBroker

from appkit.core.settings import Settings
from appkit.tasks.publisher import BACKLOG
from appkit.tasks.transports import parse_address


def connect(settings: Settings, queue: str) -> AsyncBroker:
    """Make a stream that deletes acknowledged messages."""
    address = parse_address(settings, queue)
    name = re.sub(r"[^\w-]", "_", address.topic)
    return PullBasedJetStreamBroker(
        address.url,
        subject=name,
        stream_config=StreamConfig(name=name, retention=RetentionPolicy.WORK_QUEUE, max_msgs=BACKLOG),
        consumer_config=ConsumerConfig(durable_name="workers"),
        durable="workers",
        pull_consume_batch=settings.tasks.concurrency,
        pull_consume_timeout=1,
        allow_reconnect=False,  # After a failure, appkit connects again, which also creates the stream.
    )
