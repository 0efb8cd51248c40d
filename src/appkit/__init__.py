"""appkit: sign-in, data, migrations, background tasks and plugins for FastAPI apps.

Each public name is imported when it is first used, because importing all of them is slow.
"""

from typing import TYPE_CHECKING

from appkit.__about__ import __version__ as __version__

if TYPE_CHECKING:
    from appkit.api.client_address import client_address as client_address
    from appkit.api.crud import crud_router as crud_router
    from appkit.api.dependencies import (
        CurrentPrincipal as CurrentPrincipal,
        CurrentSuperuser as CurrentSuperuser,
        CurrentUser as CurrentUser,
        DbSession as DbSession,
        OptionalUser as OptionalUser,
        ReadSession as ReadSession,
        SignedInPrincipal as SignedInPrincipal,
        SocketUser as SocketUser,
        app_of as app_of,
        require as require,
    )
    from appkit.api.errors import errors as errors, install_error_handlers as install_error_handlers
    from appkit.api.hookspecs import HealthCheck as HealthCheck
    from appkit.api.middleware import route_path as route_path
    from appkit.api.rate_limits import limit as limit
    from appkit.api.routes.auth import auth_router as auth_router
    from appkit.api.routes.health import health_router as health_router
    from appkit.api.routes.tasks import my_tasks_router as my_tasks_router, tasks_router as tasks_router
    from appkit.api.routes.users import users_router as users_router
    from appkit.api.schemas import Email as Email, Schema as Schema
    from appkit.api.signins import (
        SigninAnswer as SigninAnswer,
        complete_challenge as complete_challenge,
        complete_signin as complete_signin,
    )
    from appkit.core.cache import Cache as Cache
    from appkit.core.context import current_ids as current_ids
    from appkit.core.limits import Limiter as Limiter
    from appkit.core.mail import Mail as Mail
    from appkit.core.settings import Settings as Settings, SettingsGroup as SettingsGroup
    from appkit.domain.events import Event as Event, UserDeleted as UserDeleted
    from appkit.exceptions import (
        APIException as APIException,
        AppKitError as AppKitError,
        BadRequestException as BadRequestException,
        ConflictException as ConflictException,
        ForbiddenException as ForbiddenException,
        NotFoundException as NotFoundException,
        PayloadTooLargeException as PayloadTooLargeException,
        ServerException as ServerException,
        ServiceUnavailableException as ServiceUnavailableException,
        TooManyRequestsException as TooManyRequestsException,
        UnauthorizedException as UnauthorizedException,
        UnprocessableException as UnprocessableException,
    )
    from appkit.kit import AppKit as AppKit, Check as Check
    from appkit.plugins.markers import hookimpl as hookimpl, hookspec as hookspec
    from appkit.repository.base import BaseTableModel as BaseTableModel, IntBaseTableModel as IntBaseTableModel
    from appkit.repository.column_types import JSONOf as JSONOf
    from appkit.repository.context import AppContext as AppContext, invalidate as invalidate
    from appkit.repository.database import Database as Database, on_commit as on_commit
    from appkit.repository.encrypted_columns import EncryptedString as EncryptedString, encrypt_again as encrypt_again
    from appkit.repository.filters import CursorQuery as CursorQuery, PageQuery as PageQuery, Where as Where
    from appkit.repository.mixins import Authored as Authored, SoftDelete as SoftDelete, Versioned as Versioned
    from appkit.repository.pagination import (
        CursorPage as CursorPage,
        KeysetPage as KeysetPage,
        OffsetPage as OffsetPage,
        Page as Page,
    )
    from appkit.repository.repository import Repository as Repository
    from appkit.repository.user import BaseUser as BaseUser
    from appkit.service.auth import AuthService as AuthService
    from appkit.service.base import BaseService as BaseService
    from appkit.service.crud import CRUDService as CRUDService
    from appkit.service.hookspecs import Challenge as Challenge
    from appkit.service.links import LinkService as LinkService
    from appkit.service.principals import Principal as Principal
    from appkit.service.tasks import TaskService as TaskService, TaskStats as TaskStats
    from appkit.service.users import UserService as UserService
    from appkit.tasks.broker import create_broker as create_broker
    from appkit.tasks.context import TaskContext as TaskContext, TaskSession as TaskSession
    from appkit.tasks.handle import TaskFailedError as TaskFailedError, TaskHandle as TaskHandle
    from appkit.tasks.hookspecs import BrokerScheme as BrokerScheme
    from appkit.tasks.outcomes import Discard as Discard, Retry as Retry, Snooze as Snooze
    from appkit.tasks.router import TaskRouter as TaskRouter, enqueue as enqueue, enqueue_many as enqueue_many
else:
    # Hidden from type checkers, because they accept any name of a module with a `__getattr__`.
    _HOMES = {
        "api.client_address": "client_address",
        "api.crud": "crud_router",
        "api.dependencies": (
            "CurrentPrincipal CurrentSuperuser CurrentUser DbSession OptionalUser ReadSession SignedInPrincipal "
            "SocketUser app_of require"
        ),
        "api.errors": "errors install_error_handlers",
        "api.hookspecs": "HealthCheck",
        "api.middleware": "route_path",
        "api.rate_limits": "limit",
        "api.routes.auth": "auth_router",
        "api.routes.health": "health_router",
        "api.routes.tasks": "my_tasks_router tasks_router",
        "api.routes.users": "users_router",
        "api.schemas": "Email Schema",
        "api.signins": "SigninAnswer complete_challenge complete_signin",
        "core.cache": "Cache",
        "core.context": "current_ids",
        "core.limits": "Limiter",
        "core.mail": "Mail",
        "core.settings": "Settings SettingsGroup",
        "domain.events": "Event UserDeleted",
        "exceptions": (
            "APIException AppKitError BadRequestException ConflictException ForbiddenException NotFoundException "
            "PayloadTooLargeException ServerException ServiceUnavailableException TooManyRequestsException "
            "UnauthorizedException UnprocessableException"
        ),
        "kit": "AppKit Check",
        "plugins.markers": "hookimpl hookspec",
        "repository.base": "BaseTableModel IntBaseTableModel",
        "repository.column_types": "JSONOf",
        "repository.context": "AppContext invalidate",
        "repository.database": "Database on_commit",
        "repository.encrypted_columns": "EncryptedString encrypt_again",
        "repository.filters": "CursorQuery PageQuery Where",
        "repository.mixins": "Authored SoftDelete Versioned",
        "repository.pagination": "CursorPage KeysetPage OffsetPage Page",
        "repository.repository": "Repository",
        "repository.user": "BaseUser",
        "service.auth": "AuthService",
        "service.base": "BaseService",
        "service.crud": "CRUDService",
        "service.hookspecs": "Challenge",
        "service.links": "LinkService",
        "service.principals": "Principal",
        "service.tasks": "TaskService TaskStats",
        "service.users": "UserService",
        "tasks.broker": "create_broker",
        "tasks.context": "TaskContext TaskSession",
        "tasks.handle": "TaskFailedError TaskHandle",
        "tasks.hookspecs": "BrokerScheme",
        "tasks.outcomes": "Discard Retry Snooze",
        "tasks.router": "TaskRouter enqueue enqueue_many",
    }
    _MODULES = {name: f"appkit.{module}" for module, names in _HOMES.items() for name in names.split()}
    __all__ = sorted([*_MODULES, "__version__"], key=str.casefold)  # noqa: PLE0605 - it is a list

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module 'appkit' has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_MODULES[name]), name)
        return value

    def __dir__() -> list[str]:
        return __all__
