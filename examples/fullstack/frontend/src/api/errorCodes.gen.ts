// Made by `appkit errors --ts`: don't edit, run it again.

export const ErrorCode = {
  /** 400: The request is malformed. */
  BAD_REQUEST: 40000,
  /** 400: A one-time token is unknown, used, expired or for another purpose. */
  INVALID_TOKEN: 40050,
  /** 400: The new credential is malformed, belongs to another site, or did not verify the user. */
  PASSKEY_REFUSED: 40065,
  /** 401: Nobody is signed in, or the credentials are not valid. */
  UNAUTHORIZED: 40100,
  /** 401: The access token has expired. Refresh it, and repeat the request. */
  TOKEN_EXPIRED: 40150,
  /** 401: The e-mail address or the password is wrong, or the account is disabled. The answer doesn't reveal which. */
  INVALID_CREDENTIALS: 40151,
  /** 401: The sign-in session was revoked or has expired. */
  SESSION_REVOKED: 40152,
  /** 401: An old refresh token was used again. This ends the sign-in session (RFC 9700, 4.14.2). */
  REFRESH_REPLAYED: 40153,
  /** 401: The code that should finish signing in is wrong, expired or already used. */
  INVALID_FACTOR: 40160,
  /** 401: The passkey is unknown, has an invalid signature or challenge, or did not verify the user. */
  INVALID_PASSKEY: 40165,
  /** 401: The API key is unknown, revoked or expired, or its owner's account is closed or has a new password. */
  INVALID_API_KEY: 40175,
  /** 403: The user is signed in, but not allowed to do this. */
  FORBIDDEN: 40200,
  /** 403: Only its author may change, publish or delete a post. */
  NOT_YOUR_POST: 40201,
  /** 403: A page of another site made the browser send this request (CSRF). */
  CROSS_SITE_REQUEST: 40250,
  /** 403: The last sign-in was too long ago for this request. */
  REAUTHENTICATION_REQUIRED: 40251,
  /** 403: A signed-in user entered a wrong password. The status is not 401, because the user stays signed in. */
  WRONG_PASSWORD: 40252,
  /** 403: The e-mail address must be verified first. */
  EMAIL_NOT_VERIFIED: 40253,
  /** 403: The app accepts no sign-ups. */
  SIGNUP_CLOSED: 40254,
  /** 403: The route requires a sign-in with a second factor. */
  SECOND_FACTOR_REQUIRED: 40255,
  /** 403: The scopes of the credentials don't allow this request. */
  SCOPE_MISSING: 40256,
  /** 403: The route requires a user who signed in. An API key is not enough. */
  SESSION_REQUIRED: 40257,
  /** 403: A signed-in user gave a wrong code. The status is not 401, because the user stays signed in. */
  WRONG_CODE: 40260,
  /** 404: The resource does not exist, or the client may not see it. */
  NOT_FOUND: 40400,
  /** 404: There is no such post, or it is somebody else's draft. */
  POST_NOT_FOUND: 40401,
  /** 404: There is no such export, it is somebody else's, or it has expired. */
  EXPORT_NOT_FOUND: 40402,
  /** 409: The request contradicts existing data. */
  CONFLICT: 40900,
  /** 409: The post is already published. */
  ALREADY_PUBLISHED: 40901,
  /** 409: The file was requested before it was ready. */
  EXPORT_NOT_READY: 40902,
  /** 409: A draft takes no comments. */
  NOT_PUBLISHED: 40903,
  /** 409: An account with this e-mail address exists. */
  EMAIL_TAKEN: 40950,
  /** 409: A database constraint refused a row. If the fields are known, `errors` names them. */
  CONSTRAINT_VIOLATED: 40951,
  /** 409: Somebody else changed the row after it was read. */
  STALE_VERSION: 40952,
  /** 409: The user already has an authenticator app. Remove it before you set up another one. */
  TOTP_ENABLED: 40960,
  /** 409: The user has the maximum number of API keys. */
  TOO_MANY_API_KEYS: 40975,
  /** 413: The request body is too large. */
  PAYLOAD_TOO_LARGE: 41300,
  /** 422: Some values of the request are not acceptable. */
  UNPROCESSABLE: 42200,
  /** 429: The client exceeded a rate limit. */
  TOO_MANY_REQUESTS: 42900,
  /** 500: An error on the server. */
  SERVER: 50000,
  /** 503: The server is overloaded, or something that the server needs doesn't answer. */
  SERVICE_UNAVAILABLE: 50050,
} as const

export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode]
