"""Monitoring: reports unhandled exceptions to Sentry. Sentry's package is imported only if Sentry is enabled."""

from appkit.core.context import request_id, task_id
from appkit.core.settings import Settings
from appkit.exceptions import AppKitError
from appkit.plugins.markers import hookimpl


class Monitoring:
    """A plugin that reports unhandled exceptions with the ids of the request and the task, if `SENTRY_ENABLED` is set.

    Raises:
        AppKitError: When `SENTRY_DSN` or the package is missing.
    """

    def __init__(self, settings: Settings) -> None:
        self._enabled = settings.sentry.enabled
        if self._enabled:
            _start_sentry(settings)

    @hookimpl
    def on_exception(self, exception: Exception) -> None:
        """Report the exception. Sentry's own thread sends the report."""
        if not self._enabled:
            return
        import sentry_sdk

        with sentry_sdk.new_scope() as scope:
            for name, variable in (("request_id", request_id), ("task_id", task_id)):
                if (value := variable.get()) is not None:
                    scope.set_tag(name, value)
            scope.capture_exception(exception)


def _start_sentry(settings: Settings) -> None:
    """Start Sentry's client. It sends no personal data: no requests, no local variables, no log lines."""
    if settings.sentry.dsn is None:
        raise AppKitError("SENTRY_ENABLED is true, but SENTRY_DSN is missing. Set it to your project's DSN.")
    try:
        import sentry_sdk
        from sentry_sdk.integrations.atexit import AtexitIntegration
        from sentry_sdk.integrations.dedupe import DedupeIntegration
        from sentry_sdk.integrations.modules import ModulesIntegration
    except ModuleNotFoundError as exc:
        raise AppKitError("SENTRY_ENABLED needs Sentry's package: pip install 'fastapi-appkit[sentry]'") from exc
    sentry_sdk.init(
        dsn=settings.sentry.dsn.get_secret_value(),
        environment=settings.environment,
        default_integrations=False,  # These send log lines and the command line, which may contain secrets.
        auto_enabling_integrations=False,  # These import every package that Sentry knows.
        integrations=[AtexitIntegration(), DedupeIntegration(), ModulesIntegration()],
        include_local_variables=False,
    )
