import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ErrorCode } from '@/api/errorCodes.gen'
import type { Export } from '@/api/types'
import { makeStore, type AppStore } from '@/store'
import { ada, fakeBackend, makePost, problem } from './backend'

let store: AppStore
beforeEach(() => {
  localStorage.clear()
  store = makeStore()
})

it('knows the names and the payloads of its members', () => {
  const wrong = () => {
    // @ts-expect-error -- no such mutation
    store.commit('auth/nothing')
    // @ts-expect-error -- a theme is one of three
    store.commit('ui/theme', 'teal')
    // @ts-expect-error -- signing in takes credentials
    void store.dispatch('auth/signIn')
    const name: string = store.getters['auth/name']
    return name
  }
  expect(wrong).toBeTypeOf('function')
})

describe('auth', () => {
  it('restores whoever the cookies belong to', async () => {
    fakeBackend({ 'GET /auth/me': { data: ada } })
    await store.dispatch('auth/restore')
    expect(store.getters['auth/isSignedIn']).toBe(true)
    expect(store.getters['auth/name']).toBe('ada')
  })

  it('takes nobody for an answer', async () => {
    fakeBackend({ 'GET /auth/me': problem(ErrorCode.UNAUTHORIZED) })
    await store.dispatch('auth/restore')
    expect(store.state.auth).toEqual({ user: null, restored: true })
  })

  it('stays undecided while the server can’t be reached', async () => {
    fakeBackend({})
    await expect(store.dispatch('auth/restore')).rejects.toMatchObject({ kind: 'network' })
    expect(store.state.auth.restored).toBe(false)
  })

  it('takes what belongs to a person along when they leave', async () => {
    fakeBackend({ 'POST /auth/signin': { data: ada }, 'POST /auth/signout': { status: 204 } })
    await store.dispatch('auth/signIn', { email: ada.email, password: 'secret', remember: true })
    store.commit('desk/saved', makePost('1'))
    await store.dispatch('auth/signOut')
    expect(store.state.auth.user).toBeNull()
    expect(store.state.desk.items).toEqual([])
  })
})

describe('lists of posts', () => {
  it('grow page by page, without showing a post twice', async () => {
    const log = fakeBackend({
      'GET /posts': ({ params }) =>
        params.cursor
          ? { data: { items: [makePost('2'), makePost('3')], next_cursor: null } }
          : { data: { items: [makePost('1'), makePost('2')], next_cursor: 'c' } },
    })
    await store.dispatch('feed/load')
    expect(store.getters['feed/hasMore']).toBe(true)
    await store.dispatch('feed/loadMore')
    expect(store.state.feed.items.map(({ id }) => id)).toEqual(['1', '2', '3'])
    expect(store.getters['feed/hasMore']).toBe(false)
    expect(log.map(({ params }) => params.cursor)).toEqual([undefined, 'c'])
  })

  it('keep what they show when a load fails, and say why', async () => {
    fakeBackend({ 'GET /posts': { data: { items: [makePost('1')], next_cursor: null } } })
    await store.dispatch('feed/load')
    fakeBackend({ 'GET /posts': problem(ErrorCode.SERVER) })
    await store.dispatch('feed/load')
    expect(store.state.feed).toMatchObject({ status: 'failed', error: { code: ErrorCode.SERVER } })
    expect(store.state.feed.items).toHaveLength(1)
  })

  it('forget an answer that is out of date', async () => {
    let answer: (titles: string) => void = () => undefined
    fakeBackend({
      'GET /posts': async () => {
        const id = await new Promise<string>((resolve) => (answer = resolve))
        return { data: { items: [makePost(id)], next_cursor: null } }
      },
    })
    const first = store.dispatch('feed/load')
    await vi.waitFor(() => answer('old'))
    const second = store.dispatch('feed/load')
    await first
    await vi.waitFor(() => answer('new'))
    await second
    expect(store.state.feed.items.map(({ id }) => id)).toEqual(['new'])
  })

  it('are as long as they were left, for a while', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const log = fakeBackend({
      'GET /posts': ({ params }) => ({
        data: { items: [makePost(params.cursor ? '2' : '1')], next_cursor: params.cursor ? null : 'c' },
      }),
    })
    await store.dispatch('feed/open')
    await store.dispatch('feed/loadMore')
    await store.dispatch('feed/open')
    expect(store.state.feed.items).toHaveLength(2)
    vi.setSystemTime(Date.now() + 60_000)
    await store.dispatch('feed/open')
    expect(store.state.feed.items).toHaveLength(1)
    expect(log).toHaveLength(3)
    vi.useRealTimers()
  })

  it('tell drafts from published posts', () => {
    store.commit('desk/saved', makePost('1'))
    store.commit('desk/saved', makePost('2', { published_at: null }))
    expect(store.getters['desk/drafts'].map(({ id }) => id)).toEqual(['2'])
    expect(store.getters['desk/published'].map(({ id }) => id)).toEqual(['1'])
  })
})

describe('exports', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  const queued: Export = {
    id: 'e1',
    state: 'queued',
    progress: 0,
    step: '',
    created_at: '2026-01-01T00:00:00Z',
    expires_at: '2026-01-08T00:00:00Z',
    size: null,
  }

  it('are asked after every half second until they are done', async () => {
    const steps: Partial<Export>[] = [
      { state: 'running', progress: 40 },
      { state: 'done', progress: 100 },
    ]
    const log = fakeBackend({
      'POST /exports': { status: 201, data: queued },
      'GET /exports/e1': () => ({ data: { ...queued, ...steps.shift() } }),
    })
    await store.dispatch('exports/start')
    await vi.advanceTimersByTimeAsync(500)
    expect(store.state.exports.items[0]).toMatchObject({ state: 'running', progress: 40 })
    await vi.advanceTimersByTimeAsync(500)
    expect(store.state.exports.items[0]).toMatchObject({ state: 'done', progress: 100 })
    await vi.advanceTimersByTimeAsync(5000)
    expect(log).toHaveLength(3)
    expect(store.getters['exports/active']).toEqual([])
  })

  it('are asked after again when the network hiccups, and no more once their owner has left', async () => {
    fakeBackend({ 'POST /exports': { status: 201, data: queued } })
    await store.dispatch('exports/start')
    await vi.advanceTimersByTimeAsync(500)
    const log = fakeBackend({ 'GET /exports/e1': { data: queued } })
    await vi.advanceTimersByTimeAsync(1000)
    expect(log).toHaveLength(2)
    store.commit('exports/cleared')
    await vi.advanceTimersByTimeAsync(5000)
    expect(log).toHaveLength(2)
  })
})

describe('article', () => {
  it('shows the post that was asked for last, whichever answer comes last', async () => {
    let answerFirst: () => void = () => undefined
    const none = { data: { items: [], next_cursor: null } }
    fakeBackend({
      'GET /posts/1': () => new Promise((resolve) => (answerFirst = () => resolve({ data: makePost('1') }))),
      'GET /posts/2': { data: makePost('2') },
      'GET /posts/1/comments': none,
      'GET /posts/2/comments': none,
    })
    const first = store.dispatch('article/open', '1')
    await store.dispatch('article/open', '2')
    answerFirst()
    await first
    expect(store.state.article).toMatchObject({ post: { id: '2' }, error: null })
  })

  it('brings the post and its comments, and counts a new one', async () => {
    const comment = {
      id: 'c1',
      content: 'Yes.',
      author: { id: 'u2', name: 'bo' },
      created_at: '2026-01-03T00:00:00Z',
    }
    fakeBackend({
      'GET /posts/1': { data: makePost('1', { comment_count: 1 }) },
      'GET /posts/1/comments': { data: { items: [comment], next_cursor: null } },
      'POST /posts/1/comments': { status: 201, data: { ...comment, id: 'c2' } },
    })
    await store.dispatch('article/open', '1')
    await store.dispatch('article/comment', 'Yes.')
    expect(store.state.article.comments.map(({ id }) => id)).toEqual(['c1', 'c2'])
    expect(store.state.article.post?.comment_count).toBe(2)
  })
})

describe('ui', () => {
  it('keeps the chosen theme', async () => {
    await store.dispatch('ui/setTheme', 'dark')
    expect(document.documentElement.dataset.theme).toBe('dark')
    expect(makeStore().state.ui.theme).toBe('dark')
    await store.dispatch('ui/setTheme', 'system')
    expect(document.documentElement.dataset.theme).toBeUndefined()
  })
})
