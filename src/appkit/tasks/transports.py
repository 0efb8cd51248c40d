"""Transports: Taskiq brokers for `redis://`, `amqp://`, `nats://` and `memory://`. Their messages only wake workers."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from taskiq import AsyncBroker, BrokerMessage

from appkit.core.settings import Settings
from appkit.exceptions import AppKitError

if TYPE_CHECKING:
    from appkit.plugins.manager import PluginManager

Connect = Callable[[Settings, str], AsyncBroker]
"""Makes a Taskiq broker, not started yet, from the app's settings and a queue's name."""

BACKLOG: Final = 1000
"""The maximum number of messages in one queue on the server. The server drops the oldest messages first."""


def find_transport(settings: Settings, plugins: "PluginManager | None" = None) -> Connect:
    """The transport for the scheme of `TASKS_BROKER_URL`. A plugin's scheme takes precedence over appkit's.

    Raises:
        AppKitError: When the scheme is unknown. The transport raises `AppKitError` if its extra is not installed.
    """
    scheme = urlsplit(settings.tasks.broker_url).scheme
    own: dict[str, Connect] = dict(reversed(plugins.collect("register_brokers"))) if plugins else {}
    if scheme in own:
        return own[scheme]
    if scheme in {"postgres", "postgresql", "sqlite"}:
        raise AppKitError(
            f"TASKS_BROKER_URL starts with {scheme!r}. For tasks in the app's own database, set it to db://."
        )
    if scheme not in _TRANSPORTS:
        known = ", ".join(f"{each}://" for each in ["db", *_TRANSPORTS, *own])
        raise AppKitError(f"TASKS_BROKER_URL has the unknown scheme {scheme!r}. Use one of these: {known}.")
    extra, transport = _TRANSPORTS[scheme]

    def connect(settings: Settings, queue: str) -> AsyncBroker:
        try:
            return transport(settings, queue)
        except ImportError as exc:
            message = f"{scheme}:// needs an extra. Install it: pip install 'fastapi-appkit[{extra}]'."
            raise AppKitError(message) from exc

    return connect


def parse_address(settings: Settings, queue: str, *client_options: str) -> tuple[str, str]:
    """The server's URL without appkit's options, and the name of a queue on the server.

    The URL's option `queue` replaces the prefix `<APP_NAME>:tasks` of the name. Except for `client_options`, any other
    option raises `AppKitError`.
    """
    url = urlsplit(settings.tasks.broker_url)
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    prefix = options.pop("queue", None) or f"{settings.app_name}:tasks"
    if unknown := options.keys() - {*client_options}:
        known = ", ".join(["queue", *client_options])
        raise AppKitError(
            f"TASKS_BROKER_URL has the unknown option {min(unknown)!r}. Options of {url.scheme}:// URLs: {known}."
        )
    return url._replace(query=urlencode(options)).geturl(), f"{prefix}:{queue}"


def _redis(settings: Settings, queue: str) -> AsyncBroker:
    """A stream for each queue. Each entry is read once and deleted."""
    from appkit.tasks.redis_broker import RedisBroker

    url, name = parse_address(
        settings, queue, "health_check_interval", "socket_connect_timeout", "ssl_ca_certs", "ssl_cert_reqs"
    )
    return RedisBroker(
        url,
        queue_name=name,
        consumer_name="workers",
        consumer_id="0",  # Start at the first entry, even if the entry is older than the first worker.
        maxlen=BACKLOG,
        xread_count=settings.tasks.concurrency,
        xread_block=1000,
    )


def _rabbitmq(settings: Settings, queue: str) -> AsyncBroker:
    """A quorum queue for each queue. Quorum queues survive the loss of a node."""
    from aio_pika import ExchangeType
    from taskiq_aio_pika import AioPikaBroker, Exchange, Queue, QueueType

    url, name = parse_address(settings, queue, "heartbeat", "cafile", "certfile", "keyfile", "no_verify_ssl")
    # RabbitMQ drops messages above the limit, instead of moving them to the dead-letter queue.
    arguments: dict[str, Any] = {"x-max-length": BACKLOG, "x-dead-letter-routing-key": ""}
    return AioPikaBroker(
        url,
        qos=settings.tasks.concurrency,
        exchange=Exchange(name=name, type=ExchangeType.DIRECT),
        task_queues=[Queue(name=name, type=QueueType.QUORUM, arguments=arguments)],
        dead_letter_queue=Queue(name=f"{name}:dead", type=QueueType.QUORUM),
    )


def _nats(settings: Settings, queue: str) -> AsyncBroker:
    """A JetStream stream for each queue. Acknowledged messages are deleted. Experimental: Taskiq's client is young."""
    from nats.js.api import ConsumerConfig, RetentionPolicy, StreamConfig
    from taskiq_nats import PullBasedJetStreamBroker

    url, topic = parse_address(settings, queue)
    name = re.sub(r"[^\w-]", "_", topic)
    return PullBasedJetStreamBroker(
        url,
        subject=name,
        stream_config=StreamConfig(name=name, retention=RetentionPolicy.WORK_QUEUE, max_msgs=BACKLOG),
        consumer_config=ConsumerConfig(durable_name="workers"),
        durable="workers",
        pull_consume_batch=settings.tasks.concurrency,
        pull_consume_timeout=1,
        allow_reconnect=False,  # After a failure, appkit connects again, which also creates the stream.
    )


def _memory(settings: Settings, queue: str) -> AsyncBroker:
    """Queues in this process, to test or try an external broker without a server."""
    parse_address(settings, queue)
    if settings.production:
        raise AppKitError(
            "TASKS_BROKER_URL is memory://, whose messages reach no other process. "
            "In production, use db:// or a server's URL."
        )
    return MemoryBroker()


class MemoryBroker(AsyncBroker):
    """Carries messages within one process."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: asyncio.Queue[bytes] = asyncio.Queue()

    async def kick(self, message: BrokerMessage) -> None:
        """Queue a message."""
        self._messages.put_nowait(message.message)

    async def listen(self) -> AsyncGenerator[bytes, None]:
        """Yield the messages, forever."""
        while True:
            yield await self._messages.get()


_TRANSPORTS: Final[dict[str, tuple[str, Connect]]] = {
    "redis": ("redis", _redis),
    "rediss": ("redis", _redis),
    "amqp": ("rabbitmq", _rabbitmq),
    "amqps": ("rabbitmq", _rabbitmq),
    "nats": ("nats", _nats),
    "tls": ("nats", _nats),
    "memory": ("memory", _memory),
}
"""The extra and the transport for each scheme."""
