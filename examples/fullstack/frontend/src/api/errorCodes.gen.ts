// Made by `appkit errors --ts`: don't edit, run it again.

export const ErrorCode = {
  /** 400: The request makes no sense as it stands. */
  BAD_REQUEST: 40000,
  /** 400: A one-time token is unknown, used, expired or meant for something else. */
  INVALID_TOKEN: 40050,
  /** 400: The new credential is malformed, belongs to another site, or did not verify the user. */
  PASSKEY_REFUSED: 40065,
  /** 401: Nobody is signed in, or the credentials prove nothing. */
  UNAUTHORIZED: 40100,
  /** 401: The access token was good and is past its time: refresh it, and repeat the request. */
  TOKEN_EXPIRED: 40150,
  /** 401: The address is unknown, the password is wrong, or the account is disabled: which one is not said. */
  INVALID_CREDENTIALS: 40151,
  /** 401: The session was signed out, revoked or has ended. */
  SESSION_REVOKED: 40152,
  /** 401: A refresh token was used again after its successor was issued, which revokes the session (RFC 9700, 4.14.2). */
  REFRESH_REPLAYED: 40153,
  /** 401: The code that should finish signing in is wrong, expired or already used. */
  INVALID_FACTOR: 40160,
  /** 401: The passkey is unknown, its signature or challenge is invalid, or it did not verify the user. */
  INVALID_PASSKEY: 40165,
  /** 401: The API key is unknown, revoked or expired, or its owner's account is closed or has a new password. */
  INVALID_API_KEY: 40175,
  /** 403: The person is known, and may not do this. */
  FORBIDDEN: 40200,
  /** 403: Only its author may change, publish or delete a post. */
  NOT_YOUR_POST: 40201,
  /** 403: Another website sent this request with our cookies. */
  CROSS_SITE_REQUEST: 40250,
  /** 403: The sign-in is too old for something this sensitive. */
  REAUTHENTICATION_REQUIRED: 40251,
  /** 403: The current password, asked for again, is wrong; not a 401, for the session is still good. */
  WRONG_PASSWORD: 40252,
  /** 403: The address must be verified before this is allowed. */
  EMAIL_NOT_VERIFIED: 40253,
  /** 403: This app takes no sign-ups. */
  SIGNUP_CLOSED: 40254,
  /** 403: The person signed in with one proof of who they are, and this asks for two. */
  SECOND_FACTOR_REQUIRED: 40255,
  /** 403: The credentials are not good for this, though the person may do it. */
  SCOPE_MISSING: 40256,
  /** 403: A program's key was sent for something that only somebody who signed in may do. */
  SESSION_REQUIRED: 40257,
  /** 403: A signed-in user gave a wrong code. Not a 401, because the session is valid. */
  WRONG_CODE: 40260,
  /** 404: What was asked for is not there, or is not the caller's to see. */
  NOT_FOUND: 40400,
  /** 404: There is no such post, or it is somebody else's draft. */
  POST_NOT_FOUND: 40401,
  /** 404: There is no such export, it is somebody else's, or it has expired. */
  EXPORT_NOT_FOUND: 40402,
  /** 409: The request is fine, and contradicts what is already there. */
  CONFLICT: 40900,
  /** 409: The post is already published. */
  ALREADY_PUBLISHED: 40901,
  /** 409: The file was requested before it was ready. */
  EXPORT_NOT_READY: 40902,
  /** 409: A draft takes no comments. */
  NOT_PUBLISHED: 40903,
  /** 409: Someone already signed up with this e-mail address. */
  EMAIL_TAKEN: 40950,
  /** 409: The database refused a row; `errors` names the fields where they are known. */
  CONSTRAINT_VIOLATED: 40951,
  /** 409: Someone else changed the row since it was read. */
  STALE_VERSION: 40952,
  /** 409: The user already has an authenticator app, which must be removed before another one is set up. */
  TOTP_ENABLED: 40960,
  /** 409: The user has the maximum number of API keys. */
  TOO_MANY_API_KEYS: 40975,
  /** 413: The body is larger than the app accepts. */
  PAYLOAD_TOO_LARGE: 41300,
  /** 422: The body is readable, and some of its values are not acceptable. */
  UNPROCESSABLE: 42200,
  /** 429: The caller went over a rate limit. */
  TOO_MANY_REQUESTS: 42900,
  /** 500: Something broke that is nobody's fault but ours. */
  SERVER: 50000,
  /** 503: We can't answer now, and may be able to in a moment. */
  SERVICE_UNAVAILABLE: 50050,
} as const

export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode]
