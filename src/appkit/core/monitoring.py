"""Monitoring: reports unhandled exceptions to Sentry, which is imported only when it is enabled."""

from appkit.core.context import request_id, task_id
from appkit.core.settings import Settings
from appkit.exceptions import AppKitError
from appkit.plugins.markers import hookimpl


class Monitoring:
    """A plugin of the app: if `SENTRY_ENABLED`, it reports unhandled exceptions, with the ids of request and task.

    Raises:
        AppKitError: When `SENTRY_DSN` or the package is missing.
    """

    def __init__(self, settings: Settings) -> None:
        self._enabled = settings.sentry.enabled
        if self._enabled:
            configure_sentry(settings)

    @hookimpl
    def on_exception(self, exception: Exception) -> None:
        """Report the exception. Sentry sends it in a thread of its own."""
        if not self._enabled:
            return
        import sentry_sdk

        with sentry_sdk.new_scope() as scope:
            for name, variable in (("request_id", request_id), ("task_id", task_id)):
                if (value := variable.get()) is not None:
                    scope.set_tag(name, value)
            scope.capture_exception(exception)


def configure_sentry(settings: Settings) -> None:
    """Start this process's Sentry client. It sends no personal data: no requests, no local variables, no log lines.

    Raises:
        AppKitError: When `SENTRY_DSN` or the package is missing.
    """
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
        default_integrations=False,  # They send log lines and the command line, which may contain secrets.
        auto_enabling_integrations=False,  # They import every package that Sentry knows.
        integrations=[AtexitIntegration(), DedupeIntegration(), ModulesIntegration()],
        include_local_variables=False,
    )
