"""Routes that start and finish an OAuth flow, and that link and unlink provider accounts."""

from datetime import datetime
from secrets import token_urlsafe
from typing import Annotated
from urllib.parse import urlencode, urlsplit
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from appkit import AppContext, BaseUser, CurrentUser, DbSession, Schema, app_of, complete_signin, errors, limit, require
from appkit.contrib.oauth.providers import OAuthSettings, OpenIDProvider, ProviderFailedException, Providers
from appkit.contrib.oauth.service import TTL, InvalidStateException, OAuthFlow, OAuthService
from appkit.exceptions import (
    APIException,
    EmailNotVerifiedException,
    NotFoundException,
    ReauthenticationRequiredException,
    TooManyRequestsException,
)


class StartOAuthSchema(Schema, extra="forbid"):
    """Options of an OAuth flow."""

    # Only a path of this app, never another site's URL. Browsers read \ as /, and skip control characters.
    next: str = Field("/", max_length=500, pattern=r"^/([^/\\\x00-\x20][^\\\x00-\x20]*)?$")
    """The page to go to afterwards."""
    remember: bool = False
    """Whether the user stays signed in after the browser is closed."""


class AuthorizationSchema(Schema):
    """The provider's URL to go to: `location.href = authorization_url`."""

    authorization_url: str


class ProvidersSchema(Schema):
    """The providers that people can sign in with."""

    providers: list[str]


class OAuthAccountSchema(Schema):
    """A provider account that is linked to yours."""

    provider: str
    email: str | None
    created_at: datetime


App = Annotated[AppContext, Depends(app_of)]


def get_provider(provider: str, app: App) -> OpenIDProvider:
    """The provider in the path; 404 when there is none."""
    providers = Providers.of(app)
    if provider not in providers:
        raise NotFoundException
    return providers[provider]


ChosenProvider = Annotated[OpenIDProvider, Depends(get_provider)]
# A linked account outlasts the sign-in session, so the sign-in must be recent and the e-mail address verified.
FreshUser = Annotated[BaseUser, Depends(require(verified=True, fresh=True))]

router = APIRouter(prefix="/auth/oauth", tags=["auth"])
_FRESH = (ReauthenticationRequiredException, EmailNotVerifiedException)


@router.get("")
async def list_providers(app: App) -> ProvidersSchema:
    """List the providers that people can sign in with."""
    return ProvidersSchema(providers=list(Providers.of(app)))


@router.get("/linked")
async def list_linked_accounts(user: CurrentUser, db: DbSession) -> list[OAuthAccountSchema]:
    """List the provider accounts that are linked to yours."""
    return [OAuthAccountSchema.model_validate(account) for account in await OAuthService(db).linked(user.id)]


@router.post(
    "/{provider}/start",
    dependencies=[Depends(limit("30/minute"))],
    responses=errors(NotFoundException, ProviderFailedException, TooManyRequestsException),
)
async def start_oauth(
    payload: StartOAuthSchema, provider: ChosenProvider, request: Request, response: Response, db: DbSession
) -> AuthorizationSchema:
    """Start signing in with a provider: returns the URL to go to."""
    return await _start_flow(payload, provider, request, response, OAuthService(db))


@router.post("/{provider}/link", responses=errors(*_FRESH, NotFoundException, ProviderFailedException))
async def link_oauth(
    payload: StartOAuthSchema,
    provider: ChosenProvider,
    request: Request,
    response: Response,
    user: FreshUser,
    db: DbSession,
) -> AuthorizationSchema:
    """Start linking a provider account to yours: returns the URL to go to."""
    return await _start_flow(payload, provider, request, response, OAuthService(db), user.id)


@router.delete("/{provider}/link", status_code=204, responses=errors(*_FRESH, NotFoundException))
async def unlink_oauth(provider: str, user: FreshUser, db: DbSession) -> None:
    """Unlink your account at this provider."""
    await OAuthService(db).unlink(user.id, provider)


@router.get(
    "/{provider}/callback",
    status_code=303,
    response_class=Response,
    responses=errors(InvalidStateException, NotFoundException),
)
async def finish_oauth(
    provider: ChosenProvider, app: App, request: Request, state: str = "", code: str = ""
) -> Response:
    """Callback of the provider: signs in or links the account, and redirects to the page `next`."""
    async with app.database.session() as db:
        flow = await OAuthService(db).finish_flow(provider.name, state, request.cookies.get(_cookie_name(app), ""))
    redirect = Response(status_code=303)
    try:
        page = await _finish_flow(flow, provider, app, request, redirect, code)
    except APIException as exc:  # No page of the app is open that could show a problem document.
        page = _signin_page(app, error=str(exc.internal_code))
    redirect.headers["Location"] = f"{(app.settings.frontend.url or '').rstrip('/')}{page}"
    return redirect


async def _start_flow(
    payload: StartOAuthSchema,
    provider: OpenIDProvider,
    request: Request,
    response: Response,
    service: OAuthService,
    user_id: UUID | None = None,
) -> AuthorizationSchema:
    app = app_of(request)
    started = await provider.start(_callback_url(app, request, provider))
    # The flows of all tabs share the browser's secret.
    browser = request.cookies.get(_cookie_name(app)) or token_urlsafe(32)
    await service.start_flow(
        provider.name, started, browser, page=payload.next, remember=payload.remember, user_id=user_id
    )
    # Lax, because the callback is a navigation from the provider's site.
    response.set_cookie(
        _cookie_name(app), browser, TTL, secure=app.settings.secure_cookies, httponly=True, samesite="lax"
    )
    return AuthorizationSchema(authorization_url=started.url)


async def _finish_flow(
    flow: OAuthFlow, provider: OpenIDProvider, app: AppContext, request: Request, redirect: Response, code: str
) -> str:
    # No database session is open while the provider answers.
    identity = await provider.finish(
        code, _callback_url(app, request, provider), code_verifier=flow.code_verifier, nonce=flow.nonce
    )
    async with app.database.session() as db:
        if flow.user_id is not None:
            await OAuthService(db).link(flow.user_id, provider.name, identity)
            return flow.next
        user = await OAuthService(db).sign_in(provider.name, identity)
        answer = await complete_signin(request, redirect, db, user, methods=["oauth"], remember=flow.remember)
    if (challenge := getattr(answer, "challenge", None)) is None:
        return flow.next
    return _signin_page(app, challenge=challenge, factors=",".join(getattr(answer, "factors", ())), next=flow.next)


def _signin_page(app: AppContext, **parameters: str) -> str:
    return f"{app.settings.group(OAuthSettings).signin_page}#{urlencode(parameters)}"


def _callback_url(app: AppContext, request: Request, provider: OpenIDProvider) -> str:
    page = urlsplit(app.settings.frontend.url or str(request.base_url))  # FRONTEND_URL is set in production.
    prefix = f"{request.scope.get('root_path', '')}{app.settings.api_prefix}"
    return f"{page.scheme}://{page.netloc}{prefix}/auth/oauth/{provider.name}/callback"


def _cookie_name(app: AppContext) -> str:
    return "__Host-appkit_oauth" if app.settings.secure_cookies else "appkit_oauth"
