import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { apiClient, onSignedOut } from '@/api/apiClient'
import { ErrorCode } from '@/api/errorCodes.gen'
import { APIError } from '@/api/errors'
import { fakeBackend, problem, type Answer } from './backend'

const signedOut = vi.fn()

beforeEach(() => {
  vi.useFakeTimers({ now: 1_000_000, toFake: ['Date'] })
  localStorage.clear()
  signedOut.mockClear()
  onSignedOut(signedOut)
})
afterEach(() => {
  vi.unstubAllGlobals()
  // Later than any refresh that this module remembers.
  vi.useRealTimers()
})

/** A backend whose access token has expired until it is refreshed. */
function expiring(answer: Answer = { data: 'fresh' }) {
  let fresh = false
  return fakeBackend({
    'GET /posts/mine': () => (fresh ? answer : problem(ErrorCode.TOKEN_EXPIRED)),
    'POST /posts': ({ body }) => (fresh ? { data: body } : problem(ErrorCode.TOKEN_EXPIRED)),
    'POST /auth/refresh': () => {
      fresh = true
      vi.setSystemTime(Date.now() + 5)
      return { data: {} }
    },
  })
}

const urls = (log: { url: string }[]) => log.map(({ url }) => url)

describe('an expired access token', () => {
  it('is refreshed, and the request is repeated with its body', async () => {
    const log = expiring()
    const { data } = await apiClient.post('/posts', { title: 'A' })
    expect(data).toEqual({ title: 'A' })
    expect(urls(log)).toEqual(['/posts', '/auth/refresh', '/posts'])
  })

  it('is refreshed once for many requests at a time', async () => {
    vi.setSystemTime(2_000_000)
    const log = expiring()
    await Promise.all([1, 2, 3].map(() => apiClient.get('/posts/mine')))
    expect(urls(log).filter((url) => url === '/auth/refresh')).toHaveLength(1)
  })

  it('is not refreshed again when another tab just did', async () => {
    vi.setSystemTime(3_000_000)
    let asked = 0
    const log = fakeBackend({
      'GET /posts/mine': () => {
        if (asked++) return { data: 'fresh' }
        vi.setSystemTime(Date.now() + 10)
        localStorage.setItem('pilcrow.refresh', String(Date.now()))
        return problem(ErrorCode.TOKEN_EXPIRED)
      },
    })
    expect((await apiClient.get('/posts/mine')).data).toBe('fresh')
    expect(urls(log)).toEqual(['/posts/mine', '/posts/mine'])
  })

  it('is refreshed under a lock that all tabs share', async () => {
    vi.setSystemTime(4_000_000)
    const request = vi.fn((_name: string, _options: object, work: (lock: object) => unknown) => work({}))
    vi.stubGlobal('navigator', { ...navigator, locks: { request } })
    const log = expiring()
    await apiClient.get('/posts/mine')
    expect(request).toHaveBeenCalledExactlyOnceWith(
      'pilcrow.refresh',
      { ifAvailable: true },
      expect.any(Function),
    )
    expect(urls(log)).toEqual(['/posts/mine', '/auth/refresh', '/posts/mine'])
  })

  it('is not refreshed by a tab that waited for another one to do so', async () => {
    vi.setSystemTime(4_500_000)
    let released = false
    const request = vi.fn(async (_name: string, _options: unknown, work?: (lock: null) => unknown) => {
      if (work) return work(null)
      released = true
    })
    vi.stubGlobal('navigator', { ...navigator, locks: { request } })
    const log = fakeBackend({
      'GET /posts/mine': () => (released ? { data: 'fine' } : problem(ErrorCode.TOKEN_EXPIRED)),
    })
    expect((await apiClient.get('/posts/mine')).data).toBe('fine')
    expect(urls(log)).toEqual(['/posts/mine', '/posts/mine'])
  })

  it('is not refreshed for ever', async () => {
    vi.setSystemTime(5_000_000)
    const log = expiring(problem(ErrorCode.TOKEN_EXPIRED))
    await expect(apiClient.get('/posts/mine')).rejects.toThrow(APIError)
    expect(urls(log)).toEqual(['/posts/mine', '/auth/refresh', '/posts/mine'])
  })

  it.each([ErrorCode.SESSION_REVOKED, ErrorCode.REFRESH_REPLAYED, ErrorCode.UNAUTHORIZED])(
    'ends the session when the refresh is answered with %i',
    async (code) => {
      vi.setSystemTime(6_000_000 + code)
      fakeBackend({
        'GET /posts/mine': problem(ErrorCode.TOKEN_EXPIRED),
        'POST /auth/refresh': problem(code),
      })
      const error: unknown = await apiClient.get('/posts/mine').catch((failure: unknown) => failure)
      expect((error as APIError).is(code)).toBe(true)
      expect(signedOut).toHaveBeenCalledOnce()
    },
  )

  it('does not end the session when the refresh gets no answer', async () => {
    vi.setSystemTime(7_000_000)
    fakeBackend({ 'GET /posts/mine': problem(ErrorCode.TOKEN_EXPIRED) })
    await expect(apiClient.get('/posts/mine')).rejects.toMatchObject({ kind: 'network' })
    expect(signedOut).not.toHaveBeenCalled()
  })
})

describe('another refusal', () => {
  it.each([ErrorCode.UNAUTHORIZED, ErrorCode.SESSION_REVOKED, ErrorCode.REFRESH_REPLAYED])(
    '%i ends the session and refreshes nothing',
    async (code) => {
      const log = fakeBackend({ 'GET /auth/me': problem(code) })
      await expect(apiClient.get('/auth/me')).rejects.toMatchObject({ code })
      expect(signedOut).toHaveBeenCalledOnce()
      expect(urls(log)).toEqual(['/auth/me'])
    },
  )

  it('of a wrong password neither refreshes nor signs out', async () => {
    const log = fakeBackend({ 'POST /auth/signin': problem(ErrorCode.INVALID_CREDENTIALS) })
    await expect(apiClient.post('/auth/signin', {})).rejects.toMatchObject({ status: 401 })
    expect(signedOut).not.toHaveBeenCalled()
    expect(urls(log)).toEqual(['/auth/signin'])
  })

  it('of a download is read although it arrives as a blob', async () => {
    const { data, status } = problem(ErrorCode.NOT_FOUND)
    const text = JSON.stringify(data)
    // jsdom's Blob has no text().
    const blob = Object.assign(new Blob([text]), { text: () => Promise.resolve(text) })
    fakeBackend({ 'GET /exports/1/file': { status, data: blob } })
    await expect(apiClient.get('/exports/1/file', { responseType: 'blob' })).rejects.toMatchObject({
      code: ErrorCode.NOT_FOUND,
    })
  })
})
