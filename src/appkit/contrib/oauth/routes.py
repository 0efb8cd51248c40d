"""Going to a provider, coming back, and linking accounts."""

from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from appkit import (
    AppContext,
    BaseUser,
    CurrentUser,
    DbSession,
    Schema,
    app_of,
    complete_signin,
    errors,
    limit,
    require,
)
from appkit.contrib.oauth.providers import OpenIDProvider, ProviderFailedException, Providers
from appkit.contrib.oauth.service import InvalidStateException, OAuthService, new_browser
from appkit.contrib.oauth.settings import OAuthSettings
from appkit.contrib.oauth.tables import OAuthFlow
from appkit.exceptions import (
    APIException,
    EmailNotVerifiedException,
    NotFoundException,
    ReauthenticationRequiredException,
    SessionRevokedException,
    TokenExpiredException,
    TooManyRequestsException,
    UnauthorizedException,
)


class DepartureSchema(Schema, extra="forbid"):
    """Someone goes to a provider."""

    # A path here, and no other site's address however it is spelt: browsers read \ as /, and skip control characters.
    next: str = Field("/", max_length=500, pattern=r"^/([^/\\\x00-\x20][^\\\x00-\x20]*)?$")
    """The page where they want to be after."""
    remember: bool = False
    """Whether to stay signed in when the browser is closed."""


class AuthorizationSchema(Schema):
    """Where to send the browser: `location.href = authorization_url`."""

    authorization_url: str


class ProvidersSchema(Schema):
    """With which accounts people can sign in."""

    providers: list[str]


class OAuthAccountSchema(Schema):
    """An account elsewhere that somebody signs in with."""

    provider: str
    email: str | None
    created_at: datetime


App = Annotated[AppContext, Depends(app_of)]


def get_provider(provider: str, app: App) -> OpenIDProvider:
    """The provider in the path."""
    return Providers.of(app).get(provider)


ChosenProvider = Annotated[OpenIDProvider, Depends(get_provider)]
# A session that was left open must not become a way in for good, nor an account with an address that isn't theirs.
FreshUser = Annotated[BaseUser, Depends(require(verified=True, fresh=True))]

router = APIRouter(prefix="/auth/oauth", tags=["auth"])
_SIGNED_IN = (UnauthorizedException, TokenExpiredException, SessionRevokedException)
_FRESH = (*_SIGNED_IN, ReauthenticationRequiredException, EmailNotVerifiedException)


@router.get("")
async def list_providers(app: App) -> ProvidersSchema:
    """With which accounts people can sign in."""
    return ProvidersSchema(providers=Providers.of(app).names())


@router.get("/linked", responses=errors(*_SIGNED_IN))
async def list_linked_accounts(user: CurrentUser, db: DbSession) -> list[OAuthAccountSchema]:
    """The accounts elsewhere that you sign in with."""
    return [OAuthAccountSchema.model_validate(account) for account in await OAuthService(db).linked(user.id)]


@router.post(
    "/{provider}/start",
    dependencies=[Depends(limit("30/minute"))],
    responses=errors(NotFoundException, ProviderFailedException, TooManyRequestsException),
)
async def start_oauth(
    payload: DepartureSchema, provider: ChosenProvider, request: Request, response: Response, db: DbSession
) -> AuthorizationSchema:
    """Begin to sign in with an account elsewhere."""
    return await _depart(payload, provider, request, response, OAuthService(db))


@router.post("/{provider}/link", responses=errors(*_FRESH, NotFoundException, ProviderFailedException))
async def link_oauth(
    payload: DepartureSchema,
    provider: ChosenProvider,
    request: Request,
    response: Response,
    user: FreshUser,
    db: DbSession,
) -> AuthorizationSchema:
    """Begin to link an account elsewhere with yours."""
    return await _depart(payload, provider, request, response, OAuthService(db), user)


@router.delete("/{provider}/link", status_code=204, responses=errors(*_FRESH, NotFoundException))
async def unlink_oauth(provider: str, user: FreshUser, db: DbSession) -> None:
    """Sign in with that account no longer."""
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
    """Where the provider sends people back to. They go on to where they wanted to be, signed in."""
    async with app.database.session() as db:
        flow = await OAuthService(db).arrive(provider.name, state, request.cookies.get(_cookie_name(app), ""))
    redirect = Response(status_code=303)
    try:
        page = await _arrive(flow, provider, app, request, redirect, code)
    except APIException as exc:  # They are on no page of ours that could read a problem document.
        page = _signin_page(app, error=str(exc.internal_code))
    redirect.headers["Location"] = f"{(app.settings.frontend.url or '').rstrip('/')}{page}"
    return redirect


async def _depart(
    payload: DepartureSchema,
    provider: OpenIDProvider,
    request: Request,
    response: Response,
    service: OAuthService,
    user: BaseUser | None = None,
) -> AuthorizationSchema:
    app = app_of(request)
    authorization = await provider.begin(_callback_url(app, request, provider))
    # One browser may be on its way several times, in several tabs.
    browser = request.cookies.get(_cookie_name(app)) or new_browser()
    await service.depart(
        provider.name,
        authorization,
        browser,
        next=payload.next,
        remember=payload.remember,
        user_id=user.id if user else None,
    )
    # Lax, for the way back begins on the provider's page.
    response.set_cookie(
        _cookie_name(app), browser, 600, secure=app.settings.secure_cookies, httponly=True, samesite="lax"
    )
    return AuthorizationSchema(authorization_url=authorization.url)


async def _arrive(
    flow: OAuthFlow, provider: OpenIDProvider, app: AppContext, request: Request, redirect: Response, code: str
) -> str:
    # No connection to the database is held while the provider is asked.
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


def _signin_page(app: AppContext, **said: str) -> str:
    return f"{app.settings.group(OAuthSettings).signin_page}#{urlencode(said)}"


def _callback_url(app: AppContext, request: Request, provider: OpenIDProvider) -> str:
    page = urlsplit(app.settings.frontend.url or str(request.base_url))  # The latter in development only.
    prefix = f"{request.scope.get('root_path', '')}{app.settings.api_prefix}"
    return f"{page.scheme}://{page.netloc}{prefix}/auth/oauth/{provider.name}/callback"


def _cookie_name(app: AppContext) -> str:
    return "__Host-appkit_oauth" if app.settings.secure_cookies else "appkit_oauth"
