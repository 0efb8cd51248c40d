import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ErrorCode } from '@/api/errorCodes.gen'
import type { Export } from '@/api/types'
import { makeStore, type AppStore } from '@/store'
import { ada, deskOf, FakeEventSource, fakeBackend, makePost, problem } from './backend'

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
    expect(store.state.auth).toEqual({ user: null, restored: true, challenge: null })
  })

  it('stays undecided while the server can’t be reached', async () => {
    fakeBackend({})
    await expect(store.dispatch('auth/restore')).rejects.toMatchObject({ kind: 'network' })
    expect(store.state.auth.restored).toBe(false)
  })

  it('takes what belongs to a person along when they leave', async () => {
    fakeBackend({ 'POST /auth/signin': { data: ada }, 'POST /auth/signout': { status: 204 } })
    await store.dispatch('auth/signIn', { email: ada.email, password: 'secret', remember: true })
    fakeBackend({ ...deskOf(makePost('1')), 'POST /auth/signout': { status: 204 } })
    await store.dispatch('desk/load', {})
    expect(store.state.desk.items).toHaveLength(1)
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
    await store.dispatch('feed/open', '')
    await store.dispatch('feed/loadMore')
    await store.dispatch('feed/open', '')
    expect(store.state.feed.items).toHaveLength(2)
    vi.setSystemTime(Date.now() + 60_000)
    await store.dispatch('feed/open', '')
    expect(store.state.feed.items).toHaveLength(1)
    expect(log).toHaveLength(3)
    vi.useRealTimers()
  })

  it('begin anew with what matches, when something is looked for', async () => {
    const log = fakeBackend({ 'GET /posts': { data: { items: [makePost('1')], next_cursor: null } } })
    await store.dispatch('feed/open', '')
    await store.dispatch('feed/open', 'tide')
    expect(log.map(({ params }) => params.q)).toEqual([undefined, 'tide'])
    fakeBackend({ 'GET /posts': problem(ErrorCode.SERVER) })
    await store.dispatch('feed/open', 'bread')
    expect(store.state.feed).toMatchObject({ q: 'bread', items: [], status: 'failed' })
  })
})

describe('desk', () => {
  it('shows the page that was asked for, and what it all adds up to', async () => {
    const log = fakeBackend(deskOf(makePost('1'), makePost('2', { published_at: null })))
    await store.dispatch('desk/load', { q: 'tide', sort: 'title', page: 2 })
    expect(log[0]?.params).toEqual({ q: 'tide', sort: 'title', page: 2 })
    expect(store.state.desk).toMatchObject({
      total: 2,
      figures: { drafts: 1, published: 1 },
      status: 'ready',
    })
    expect(store.getters['desk/isBlank']).toBe(false)
  })

  it('knows a blank sheet from a search without a match', async () => {
    fakeBackend(deskOf())
    await store.dispatch('desk/load', {})
    expect(store.getters['desk/isBlank']).toBe(true)
  })

  it('keeps what it shows when a load fails', async () => {
    fakeBackend(deskOf(makePost('1')))
    await store.dispatch('desk/load', {})
    fakeBackend({ ...deskOf(), 'GET /posts/mine': problem(ErrorCode.SERVER) })
    await store.dispatch('desk/load', {})
    expect(store.state.desk).toMatchObject({ status: 'failed', error: { code: ErrorCode.SERVER } })
    expect(store.state.desk.items).toHaveLength(1)
    store.commit('desk/removed', '1')
    expect(store.state.desk.items).toEqual([])
  })
})

describe('exports', () => {
  const queued: Export = {
    id: 'e1',
    state: 'queued',
    progress: 0,
    step: '',
    created_at: '2026-01-01T00:00:00Z',
    expires_at: '2026-01-08T00:00:00Z',
    size: null,
  }

  beforeEach(() => {
    FakeEventSource.opened = []
    vi.stubGlobal('EventSource', FakeEventSource)
  })
  afterEach(async () => {
    await store.dispatch('exports/unfollow')
    vi.unstubAllGlobals()
    vi.useRealTimers()
  })

  it('are followed by one stream until none is at work', async () => {
    fakeBackend({ 'POST /exports': { status: 201, data: queued } })
    await store.dispatch('exports/start')
    await store.dispatch('exports/follow')
    expect(FakeEventSource.opened.map(({ url }) => url)).toEqual(['/api/exports/events'])
    const [stream] = FakeEventSource.opened
    stream?.send([{ ...queued, state: 'running', progress: 40 }])
    expect(store.state.exports.items[0]).toMatchObject({ state: 'running', progress: 40 })
    expect(stream?.readyState).toBe(1)
    stream?.send([{ ...queued, state: 'done', progress: 100 }])
    expect(store.getters['exports/active']).toEqual([])
    expect(stream?.readyState).toBe(FakeEventSource.CLOSED)
  })

  it('are asked for again when the stream is refused, for that refreshes the session', async () => {
    vi.useFakeTimers()
    fakeBackend({ 'GET /exports': { data: [queued] } })
    await store.dispatch('exports/load')
    FakeEventSource.opened[0]?.fail(0) // A broken line: the browser tries again by itself.
    await vi.advanceTimersByTimeAsync(1_000)
    expect(FakeEventSource.opened).toHaveLength(1)
    FakeEventSource.opened[0]?.fail(FakeEventSource.CLOSED)
    await vi.advanceTimersByTimeAsync(1_000)
    expect(FakeEventSource.opened).toHaveLength(2)
  })

  it('are followed no more once their owner has left', async () => {
    fakeBackend({ 'GET /exports': { data: [queued] } })
    store.commit('auth/signedIn', ada)
    await store.dispatch('exports/load')
    store.commit('auth/signedOut')
    expect(FakeEventSource.opened[0]?.readyState).toBe(FakeEventSource.CLOSED)
    expect(store.state.exports.items).toEqual([])
  })

  it('can be cancelled', async () => {
    fakeBackend({
      'GET /exports': { data: [queued] },
      'POST /exports/e1/cancel': { data: { ...queued, state: 'cancelled' } },
    })
    await store.dispatch('exports/load')
    await store.dispatch('exports/cancel', 'e1')
    expect(store.getters['exports/latest']?.state).toBe('cancelled')
  })

  it('say why they did not load', async () => {
    fakeBackend({ 'GET /exports': problem(ErrorCode.SERVER) })
    await store.dispatch('exports/load')
    expect(store.state.exports).toMatchObject({ status: 'failed', error: { code: ErrorCode.SERVER } })
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

  it('speaks another language, and remembers it', async () => {
    await store.dispatch('ui/setLanguage', 'de')
    expect(document.documentElement.lang).toBe('de')
    expect(makeStore().state.ui.language).toBe('de')
    await store.dispatch('ui/setLanguage', 'en')
  })

  it('takes a toast away after a while', async () => {
    vi.useFakeTimers()
    await store.dispatch('ui/toast', { text: 'Saved.' })
    vi.advanceTimersByTime(6_000)
    expect(store.state.ui.toasts).toEqual([])
    vi.useRealTimers()
  })
})
