/** A backend for tests: an Axios adapter that answers from a table, and remembers what it was asked. */
import { AxiosError, type AxiosAdapter, type AxiosResponse, type InternalAxiosRequestConfig } from 'axios'
import { apiClient } from '@/api/apiClient'
import type { ErrorCode } from '@/api/errorCodes.gen'
import type { Post, User } from '@/api/types'

export interface Asked {
  method: string
  url: string
  params: Record<string, unknown>
  body: unknown
}

export interface Answer {
  status?: number
  data?: unknown
}

export type Handler = (asked: Asked) => Answer | Promise<Answer>

/** Answers `"GET /posts"` and the like with what the table says; anything else is a network error. */
export function fakeBackend(table: Record<string, Handler | Answer>): Asked[] {
  const log: Asked[] = []
  const adapter: AxiosAdapter = async (config) => {
    const asked = {
      method: (config.method ?? 'get').toUpperCase(),
      url: config.url ?? '',
      params: (config.params ?? {}) as Record<string, unknown>,
      body: typeof config.data === 'string' ? (JSON.parse(config.data) as unknown) : undefined,
    }
    log.push(asked)
    const entry = table[`${asked.method} ${asked.url}`]
    if (!entry) throw new AxiosError('Network Error', AxiosError.ERR_NETWORK, config)
    const { status = 200, data = null } = typeof entry === 'function' ? await entry(asked) : entry
    return settle(config, status, data)
  }
  apiClient.defaults.adapter = adapter
  return log
}

function settle(config: InternalAxiosRequestConfig, status: number, data: unknown): AxiosResponse {
  const response = { config, status, data, statusText: '', headers: {} }
  if (config.signal?.aborted) throw new AxiosError('canceled', AxiosError.ERR_CANCELED, config)
  if (status < 400) return response
  throw new AxiosError('', AxiosError.ERR_BAD_REQUEST, config, undefined, response)
}

export function problem(
  code: ErrorCode,
  errors?: { field: string; message: string; type: string }[],
): Answer {
  const status = code >= 50000 ? 500 : code >= 40200 && code < 40300 ? 403 : Math.floor(code / 100)
  return {
    status,
    data: {
      type: '',
      title: '',
      status,
      detail: `Problem ${code}.`,
      internal_code: code,
      request_id: 'r-1',
      errors,
    },
  }
}

export const ada: User = {
  id: 'u1',
  email: 'ada@example.com',
  is_superuser: false,
  email_verified: true,
  created_at: '2026-01-01T00:00:00Z',
}

export function makePost(id: string, changes: Partial<Post> = {}): Post {
  return {
    id,
    title: `Post ${id}`,
    subtitle: null,
    content: 'Text.',
    author: { id: 'u1', name: 'ada' },
    published_at: '2026-01-02T00:00:00Z',
    created_at: '2026-01-01T00:00:00Z',
    updated_at: '2026-01-02T00:00:00Z',
    comment_count: 0,
    version: 1,
    ...changes,
  }
}

/** A page of one's own posts, as the desk asks for it. */
export function deskOf(...posts: Post[]) {
  const drafts = posts.filter((post) => !post.published_at).length
  return {
    'GET /exports': { data: [] },
    'GET /posts/mine': { data: { items: posts, page: 1, size: 10, total: posts.length, pages: 1 } },
    'GET /posts/mine/figures': { data: { drafts, published: posts.length - drafts, comments: 0 } },
  }
}

/** An EventSource that says what a test tells it to. */
export class FakeEventSource {
  static readonly CLOSED = 2
  static opened: FakeEventSource[] = []
  readyState = 1
  onmessage: ((event: { data: string }) => void) | null = null
  onerror: (() => void) | null = null

  constructor(readonly url: string) {
    FakeEventSource.opened.push(this)
  }

  send(data: unknown): void {
    this.onmessage?.({ data: JSON.stringify(data) })
  }

  fail(readyState: number): void {
    this.readyState = readyState
    this.onerror?.()
  }

  close(): void {
    this.readyState = FakeEventSource.CLOSED
  }
}
