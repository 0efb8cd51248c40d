"""Routes that start and finish an OAuth flow, and that link and unlink provider accounts."""

from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from appkit import AppContext, BaseUser, CurrentUser, DbSession, Schema, app_of, complete_signin, errors, limit, require
from appkit.contrib.oauth.providers import OAuthSettings, OpenIDProvider, ProviderFailedException, Providers
from appkit.contrib.oauth.service import InvalidStateException, OAuthFlow, OAuthService, new_browser_secret
from appkit.exceptions import (
    APIException,
    EmailNotVerifiedException,
    NotFoundException,
    ReauthenticationRequiredException,
    TooManyRequestsException,
)


class StartOAuthSchema(Schema, extra="forbid"):
    """Options of an OAuth flow."""

    # A path of this app, never another site's URL: browsers read \ as /, and skip control characters.
    next: str = Field("/", max_length=500, pattern=r"^/([^/\\\x00-\x20][^\\\x00-\x20]*)?$")
    """The page to go to afterwards."""
    remember: bool = False
    """Whether to stay signed in when the browser is closed."""


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
    """The provider in the path."""
    return Providers.of(app).get(provider)


ChosenProvider = Annotated[OpenIDProvider, Depends(get_provider)]
# A session left open must not gain a lasting way to sign in, nor an account whose address isn't verified.
FreshUser = Annotated[BaseUser, Depends(require(verified=True, fresh=True))]

router = APIRouter(prefix="/auth/oauth", tags=["auth"])
_FRESH = (ReauthenticationRequiredException, EmailNotVerifiedException)


@router.get("")
async def list_providers(app: App) -> ProvidersSchema:
    """List the providers that people can sign in with."""
    return ProvidersSchema(providers=Providers.of(app).names())


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
    return await _start_flow(payload, provider, request, response, OAuthService(db), user)


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
    except APIException as exc:  # The browser is on no page that could read a problem document.
        page = _signin_page(app, error=str(exc.internal_code))
    redirect.headers["Location"] = f"{(app.settings.frontend.url or '').rstrip('/')}{page}"
    return redirect


async def _start_flow(
    payload: StartOAuthSchema,
    provider: OpenIDProvider,
    request: Request,
    response: Response,
    service: OAuthService,
    user: BaseUser | None = None,
) -> AuthorizationSchema:
    app = app_of(request)
    authorization = await provider.start(_callback_url(app, request, provider))
    # One browser may have several flows, in several tabs.
    browser = request.cookies.get(_cookie_name(app)) or new_browser_secret()
    await service.start_flow(
        provider.name,
        authorization,
        browser,
        next_page=payload.next,
        remember=payload.remember,
        user_id=user.id if user else None,
    )
    # Lax, because the callback is a navigation from the provider's site.
    response.set_cookie(
        _cookie_name(app), browser, 600, secure=app.settings.secure_cookies, httponly=True, samesite="lax"
    )
    return AuthorizationSchema(authorization_url=authorization.url)


async def _finish_flow(
    flow: OAuthFlow, provider: OpenIDProvider, app: AppContext, request: Request, redirect: Response, code: str
) -> str:
    # No database connection is held while waiting for the provider.
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
    page = urlsplit(app.settings.frontend.url or str(request.base_url))  # base_url in development only.
    prefix = f"{request.scope.get('root_path', '')}{app.settings.api_prefix}"
    return f"{page.scheme}://{page.netloc}{prefix}/auth/oauth/{provider.name}/callback"


def _cookie_name(app: AppContext) -> str:
    return "__Host-appkit_oauth" if app.settings.secure_cookies else "appkit_oauth"
