/** The Axios instance of the app. It converts errors to `APIError`, and refreshes an expired access token once. */
import axios, { type InternalAxiosRequestConfig } from 'axios'
import { ErrorCode } from './errorCodes.gen'
import { APIError } from './errors'

declare module 'axios' {
  interface AxiosRequestConfig {
    /** Don't retry this request after a token refresh. */
    final?: boolean
    /** This request was already retried after re-authentication. */
    proven?: boolean
    /** When the request was sent, in milliseconds. */
    sentAt?: number
  }
}

const LOCK = 'pilcrow.refresh'

export const apiClient = axios.create({
  baseURL: import.meta.env.VITE_API_BASE_URL ?? '/api',
  withCredentials: true,
  timeout: 15_000,
})

let notifySignedOut: () => void = () => undefined
let askPassword: () => Promise<boolean> = () => Promise.resolve(false)
let refreshing: Promise<boolean> | undefined
let refreshedAt = 0

/** Sets a callback for when the session has ended; `main.ts` connects the store and the router. */
export function onSignedOut(handler: () => void): void {
  notifySignedOut = handler
}

/** Sets the function that asks for the password again, and resolves with whether it was given. `App.vue` calls this. */
export function onReauthRequired(handler: () => Promise<boolean>): void {
  askPassword = handler
}

apiClient.interceptors.request.use((config) => {
  config.sentAt = Date.now()
  return config
})

apiClient.interceptors.response.use(undefined, async (failure: unknown) => {
  const error = await readError(failure)
  const config = axios.isAxiosError(failure) ? failure.config : undefined

  if (config && !config.final && error.is(ErrorCode.TOKEN_EXPIRED)) return refreshAndRepeat(config)
  if (config && !config.proven && error.is(ErrorCode.REAUTHENTICATION_REQUIRED) && (await askPassword())) {
    return apiClient.request({ ...config, proven: true })
  }
  if (error.is(ErrorCode.UNAUTHORIZED, ErrorCode.SESSION_REVOKED, ErrorCode.REFRESH_REPLAYED))
    notifySignedOut()
  throw error
})

async function refreshAndRepeat(config: InternalAxiosRequestConfig): Promise<unknown> {
  const final = await refreshSince(config.sentAt ?? 0)
  return apiClient.request({ ...config, final })
}

/**
 * Refreshes the session, unless this tab or another one did so after `sentAt`.
 *
 * False when another tab refreshed: the retried request shows whether that succeeded.
 */
function refreshSince(sentAt: number): Promise<boolean> {
  refreshing ??= withLock(async () => {
    if (isBetween(lastRefresh(), sentAt, Date.now())) return
    await apiClient.post('/auth/refresh', undefined, { final: true })
    rememberRefresh(Date.now())
  }).finally(() => {
    refreshing = undefined
  })
  return refreshing
}

// The clock may have been set back since the last refresh, hence the upper end.
function isBetween(value: number, low: number, high: number): boolean {
  return low < value && value <= high
}

// Tabs share cookies, so they share a lock: using a refresh token twice ends the session. A tab that had to wait does
// not refresh, because the other tab's value in storage may arrive later than the lock.
async function withLock(work: () => Promise<void>): Promise<boolean> {
  const { locks } = navigator
  if (!locks) return work().then(() => true)
  const held = await locks.request(LOCK, { ifAvailable: true }, async (lock) => {
    if (lock) await work()
    return lock !== null
  })
  if (!held) await locks.request(LOCK, () => undefined)
  return held
}

function lastRefresh(): number {
  try {
    return Math.max(refreshedAt, Number(localStorage.getItem(LOCK)))
  } catch {
    return refreshedAt
  }
}

function rememberRefresh(now: number): void {
  refreshedAt = now
  try {
    localStorage.setItem(LOCK, String(now))
  } catch {
    // Without storage, each tab refreshes for itself, in turn.
  }
}

// Errors of a download are blobs, too.
async function readError(failure: unknown): Promise<APIError> {
  if (axios.isAxiosError(failure) && failure.response?.data instanceof Blob) {
    const text = await failure.response.data.text()
    try {
      failure.response.data = JSON.parse(text)
    } catch {
      // Not a problem document; APIError handles it as unknown.
    }
  }
  return APIError.from(failure)
}
