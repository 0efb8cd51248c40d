/** The one Axios instance: where the API is, what its errors become, and when a request is sent once more. */
import axios, { type InternalAxiosRequestConfig } from 'axios'
import { ErrorCode } from './errorCodes.gen'
import { APIError } from './errors'

declare module 'axios' {
  interface AxiosRequestConfig {
    /** This request was sent once already with a fresh session, or must not be: it is not repeated after a refresh. */
    final?: boolean
    /** This request was sent once already with a recent proof of who we are. */
    proven?: boolean
    /** When the request left, in milliseconds. */
    sentAt?: number
  }
}

const LOCK = 'pilcrow.refresh'

export const apiClient = axios.create({
  baseURL: import.meta.env.VITE_API_BASE_URL ?? '/api',
  withCredentials: true,
  timeout: 15_000,
})

let tellSignedOut: () => void = () => undefined
let askPassword: () => Promise<boolean> = () => Promise.resolve(false)
let refreshing: Promise<boolean> | undefined
let refreshedAt = 0

/** Says what to do when the API no longer knows who we are; `main.ts` connects the store and the router. */
export function onSignedOut(handler: () => void): void {
  tellSignedOut = handler
}

/** Says how to ask somebody for their password again; it resolves with whether they gave it. `App.vue` connects it. */
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
  if (error.is(ErrorCode.UNAUTHORIZED, ErrorCode.SESSION_REVOKED, ErrorCode.REFRESH_REPLAYED)) tellSignedOut()
  throw error
})

async function refreshAndRepeat(config: InternalAxiosRequestConfig): Promise<unknown> {
  const final = await refreshSince(config.sentAt ?? 0)
  return apiClient.request({ ...config, final })
}

/**
 * Refreshes the session, unless this tab or another one did so after `sentAt`.
 *
 * False when another tab was at it: whether it succeeded, the repeated request shows.
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

// Tabs share the cookies, so they share the lock: two refreshes with one token look like theft to the server. A tab
// that had to wait does nothing: what the other one stored may take longer to arrive than the lock.
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
    // Without storage the other tabs refresh for themselves, one after the other.
  }
}

// A download asks for a blob, and then its errors arrive as one too.
async function readError(failure: unknown): Promise<APIError> {
  if (axios.isAxiosError(failure) && failure.response?.data instanceof Blob) {
    const text = await failure.response.data.text()
    try {
      failure.response.data = JSON.parse(text)
    } catch {
      // Not ours: APIError calls it unknown.
    }
  }
  return APIError.from(failure)
}
