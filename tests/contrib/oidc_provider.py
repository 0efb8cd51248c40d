"""An OpenID Connect provider for tests, built on Authlib's server.

The provider checks the client's secret, the redirect URI and PKCE. Each code works once. `PUT /person` sets the person
who signs in next. The claims in its body replace the claims of the ID token, so a test can forge any claim. The two
URLs of GitHub's API return the same person.
"""

# ruff: noqa: ARG002 - Authlib defines the methods' arguments
# mypy: disable-error-code="misc"

import logging
import sys
from dataclasses import dataclass
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer, ResourceProtector, current_token
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant
from authlib.oauth2.rfc6750 import BearerTokenValidator
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core import OpenIDCode
from flask import Flask, request
from joserfc.jwk import RSAKey
from werkzeug.serving import make_server

CLIENT_ID = "desk"
CLIENT_SECRET = "a secret that the provider gave out"

app = Flask(__name__)
key = RSAKey.generate_key(2048, {"kid": "1"})
person: dict[str, Any] = {}
codes: dict[str, "Code"] = {}
tokens: dict[str, "Token"] = {}


class Client:
    client_id = CLIENT_ID

    def get_client_id(self):
        return self.client_id

    def get_default_redirect_uri(self):
        return None

    def get_allowed_scope(self, scope):
        return scope

    def check_redirect_uri(self, uri):
        return uri.endswith(("/api/auth/oauth/desk/callback", "/api/auth/oauth/github/callback"))

    def check_client_secret(self, secret):
        return secret == CLIENT_SECRET

    def check_endpoint_auth_method(self, method, _endpoint):
        return method == "client_secret_basic"

    def check_response_type(self, kind):
        return kind == "code"

    def check_grant_type(self, kind):
        return kind == "authorization_code"


@dataclass
class Code:
    code: str
    redirect_uri: str
    scope: str
    nonce: str | None
    code_challenge: str
    code_challenge_method: str

    def get_redirect_uri(self):
        return self.redirect_uri

    def get_scope(self):
        return self.scope

    def get_nonce(self):
        return self.nonce

    def get_auth_time(self):
        return None

    def get_acr(self):
        return None

    def get_amr(self):
        return None


@dataclass
class Token:
    access_token: str
    scope: str

    def is_expired(self):
        return False

    def is_revoked(self):
        return False

    def get_scope(self):
        return self.scope


class CodeGrant(AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic",)

    def save_authorization_code(self, code, request):
        data = request.payload.data
        codes[code] = Code(
            code,
            request.payload.redirect_uri,
            request.payload.scope,
            data.get("nonce"),
            data["code_challenge"],
            data["code_challenge_method"],
        )

    def query_authorization_code(self, code, client):
        return codes.get(code)

    def delete_authorization_code(self, authorization_code):
        del codes[authorization_code.code]

    def authenticate_user(self, authorization_code):
        return person


class IDTokens(OpenIDCode):
    def exists_nonce(self, nonce, request):
        return False

    def get_client_algorithm(self, client):
        return "RS256"

    def resolve_client_private_key(self, client):
        return key

    def get_client_claims(self, client):
        return {"iss": request.host_url.rstrip("/"), "aud": [CLIENT_ID]}

    def generate_user_info(self, user, scope):
        return dict(user)

    def encode_id_token(self, token, request):
        if "id_token" in person:
            return person["id_token"]
        return super().encode_id_token(token, request)


class Tokens(BearerTokenValidator):
    def authenticate_token(self, token_string):
        return tokens.get(token_string)


server = AuthorizationServer()
require_token = ResourceProtector()
require_token.register_token_validator(Tokens())


@app.get("/.well-known/openid-configuration")
def metadata():
    here = request.host_url.rstrip("/")
    return {
        "issuer": here,
        "authorization_endpoint": f"{here}/authorize",
        "token_endpoint": f"{here}/token",
        "jwks_uri": f"{here}/jwks",
        "userinfo_endpoint": f"{here}/userinfo",
        "id_token_signing_alg_values_supported": ["RS256", "none", "HS256"],
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
    }


@app.get("/jwks")
def jwks():
    return {"keys": [key.as_dict(private=False)]}


@app.get("/authorize")
@app.get("/login/oauth/authorize")
def authorize():
    who = None if person.get("refuses") else person
    return server.create_authorization_response(grant=server.get_consent_grant(end_user=who), grant_user=who)


@app.post("/token")
@app.post("/login/oauth/access_token")
def token():
    return server.create_token_response()


@app.get("/api/v3/user")
@require_token("user:email")
def github_user():
    assert current_token
    return {"id": int(person["sub"]), "login": "somebody", "email": person["email"]}


@app.get("/api/v3/user/emails")
@require_token("user:email")
def github_emails():
    return [
        {"email": "elsewhere@example.com", "primary": False, "verified": True},
        {"email": person["email"], "primary": True, "verified": person["email_verified"]},
    ]


@app.put("/person")
def think_of():
    person.clear()
    person.update(request.get_json())
    return {}


def save_token(token, _request):
    tokens[token["access_token"]] = Token(token["access_token"], token["scope"])


def main(port: int) -> None:
    server.init_app(app, query_client=lambda name: Client() if name == CLIENT_ID else None, save_token=save_token)
    server.register_grant(CodeGrant, [CodeChallenge(required=True), IDTokens(require_nonce=False)])
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    listener = make_server("127.0.0.1", port, app)
    print(listener.server_port, flush=True)  # noqa: T201 - the tests read the port
    listener.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
