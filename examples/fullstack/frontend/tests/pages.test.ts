import { flushPromises } from '@vue/test-utils'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ErrorCode } from '@/api/errorCodes.gen'
import { ada, deskOf, fakeBackend, makePost, problem } from './backend'
import { answerWith, button, eventually, newStore, open, store, unmount } from './render'

beforeEach(newStore)
afterEach(unmount)

describe('SignInView', () => {
  it('shows what the server says about each field, and goes on once it is content', async () => {
    answerWith({
      'POST /auth/signin': problem(ErrorCode.UNPROCESSABLE, [
        { field: 'email', message: 'This is not an e-mail address.', type: 'value_error' },
      ]),
    })
    const { main, router } = await open('/signin?next=/exports')
    await main.get('form').trigger('submit')
    await flushPromises()
    expect(main.get('[name=email]').attributes('aria-invalid')).toBe('true')
    expect(main.text()).toContain('This is not an e-mail address.')

    answerWith({ 'POST /auth/signin': { data: ada } })
    await main.get('form').trigger('submit')
    await flushPromises()
    await eventually(() => expect(router.currentRoute.value.fullPath).toBe('/exports'))
  })

  it('says a wrong password in one sentence for the whole form', async () => {
    answerWith({ 'POST /auth/signin': problem(ErrorCode.INVALID_CREDENTIALS) })
    const { main } = await open('/signin')
    await main.get('form').trigger('submit')
    await flushPromises()
    expect(main.get('[role=alert]').text()).toBe('Problem 40151.')
  })
})

describe('HomeView', () => {
  it('shows what is published, and the next page when asked', async () => {
    fakeBackend({
      'GET /auth/me': problem(ErrorCode.UNAUTHORIZED),
      'GET /posts': ({ params }) => ({
        data: params.cursor
          ? { items: [makePost('2')], next_cursor: null }
          : { items: [makePost('1')], next_cursor: 'c' },
      }),
    })
    const { main } = await open('/')
    expect(main.findAll('article')).toHaveLength(1)
    await main.get('.more button').trigger('click')
    await flushPromises()
    expect(main.findAll('article')).toHaveLength(2)
    expect(main.get('.visually-hidden[role=status]').text()).toBe('1 more post below')
  })

  it('offers another try when it can’t load', async () => {
    answerWith({ 'GET /posts': problem(ErrorCode.SERVER) })
    const { main } = await open('/')
    expect(main.get('[role=alert]').text()).toContain('r-1')
    answerWith({ 'GET /posts': { data: { items: [], next_cursor: null } } })
    await main.get('[role=alert] button').trigger('click')
    await flushPromises()
    expect(main.text()).toContain('Nothing is published yet')
  })
})

describe('DeskView', () => {
  beforeEach(() => store.commit('auth/signedIn', ada))

  it('tells drafts from published posts, and keeps what it shows in the address', async () => {
    const log = answerWith(deskOf(makePost('1'), makePost('2', { published_at: null })))
    const { main, router } = await open('/desk?sort=title')
    expect(main.findAll('tbody .chip').map((chip) => chip.text())).toEqual(['Published', 'Draft'])
    expect(main.get('[aria-sort=ascending]').text()).toBe('Title')
    await button(main, 'Drafts1').trigger('click')
    await flushPromises()
    expect(router.currentRoute.value.fullPath).toBe('/desk?show=drafts&sort=title')
    expect(log.filter(({ url }) => url === '/posts/mine').at(-1)?.params).toMatchObject({
      published: false,
      sort: 'title',
      page: 1,
    })
  })

  it('says that nothing matches, and shows everything again', async () => {
    answerWith({
      ...deskOf(makePost('1')),
      'GET /posts/mine': { data: { items: [], page: 1, size: 10, total: 0, pages: 0 } },
    })
    const { main, router } = await open('/desk?q=nothing')
    expect(main.text()).toContain('Nothing here matches “nothing”.')
    await button(main, 'Show everything').trigger('click')
    await flushPromises()
    expect(router.currentRoute.value.fullPath).toBe('/desk')
  })

  it('hands a clean sheet to who has not written yet', async () => {
    answerWith(deskOf())
    const { main } = await open('/desk')
    expect(main.text()).toContain('A clean sheet')
  })

  it('offers another try when it can’t load', async () => {
    answerWith({ ...deskOf(), 'GET /posts/mine': problem(ErrorCode.SERVER) })
    const { main } = await open('/desk')
    answerWith(deskOf(makePost('1')))
    await button(main, 'Try again').trigger('click')
    await flushPromises()
    expect(main.findAll('tbody tr')).toHaveLength(1)
  })
})

describe('EditorView', () => {
  const theirs = makePost('7', { title: 'Their words', published_at: null, version: 2 })
  const draft = makePost('7', { title: 'First words', published_at: null })

  it('saves a new post and takes its address, without losing what is typed', async () => {
    store.commit('auth/signedIn', ada)
    const log = answerWith({ 'POST /posts': { status: 201, data: draft } })
    const { main, router } = await open('/write')
    await main.get('#title').setValue('First words')
    await main.get('#content').setValue('Text.')
    expect(main.text()).toContain('Not saved yet')
    await main.get('form').trigger('submit')
    await flushPromises()
    expect(log.at(-1)?.body).toEqual({ title: 'First words', subtitle: null, content: 'Text.' })
    expect(router.currentRoute.value.fullPath).toBe('/posts/7/edit')
    expect(main.text()).toContain('Saved at')
  })

  it('shows what the server says about a field', async () => {
    store.commit('auth/signedIn', ada)
    answerWith({
      'POST /posts': problem(ErrorCode.UNPROCESSABLE, [
        { field: 'title', message: 'Give it a title.', type: 'x' },
      ]),
    })
    const { main } = await open('/write')
    await main.get('form').trigger('submit')
    await flushPromises()
    expect(main.get('#title-error').text()).toBe('Give it a title.')
    expect(main.get('#title').attributes('aria-invalid')).toBe('true')
  })

  it('saves a draft by itself once its author pauses, and what is published only when told to', async () => {
    vi.useFakeTimers()
    store.commit('auth/signedIn', ada)
    const table = { 'GET /posts/7': { data: draft }, 'PATCH /posts/7': { data: { ...draft, version: 2 } } }
    const log = answerWith(table)
    const { main } = await open('/posts/7/edit')
    await main.get('#content').setValue('More.')
    await vi.advanceTimersByTimeAsync(2_000)
    expect(log.at(-1)?.body).toMatchObject({ content: 'More.', version: 1 })
    expect(main.text()).toContain('Saved at')
    unmount()

    const calm = answerWith({ 'GET /posts/7': { data: makePost('7') } })
    const published = await open('/posts/7/edit')
    await published.main.get('#content').setValue('More.')
    await vi.advanceTimersByTimeAsync(10_000)
    expect(calm.filter(({ method }) => method === 'PATCH')).toEqual([])
    vi.useRealTimers()
  })

  it('says that it could not save, and tries again when the network is back', async () => {
    store.commit('auth/signedIn', ada)
    answerWith({ 'GET /posts/7': { data: draft } })
    const { main } = await open('/posts/7/edit')
    await main.get('#content').setValue('More.')
    await main.get('form').trigger('submit')
    await flushPromises()
    expect(main.text()).toContain('the server can’t be reached')
    vi.useFakeTimers()
    const log = answerWith({ 'PATCH /posts/7': { data: draft } })
    window.dispatchEvent(new Event('online'))
    await vi.advanceTimersByTimeAsync(2_000)
    expect(log.map(({ method }) => method)).toEqual(['PATCH'])
    vi.useRealTimers()
  })

  it.each([
    ['Keep mine', 'My words', 2],
    ['Take the other version', 'Their words', undefined],
  ])('lets its author choose after somebody was quicker: %s', async (choice, title, version) => {
    store.commit('auth/signedIn', ada)
    answerWith({ 'GET /posts/7': { data: draft } })
    const { main } = await open('/posts/7/edit')
    await main.get('#title').setValue('My words')
    answerWith({ 'GET /posts/7': { data: theirs }, 'PATCH /posts/7': problem(ErrorCode.STALE_VERSION) })
    await main.get('form').trigger('submit')
    await flushPromises()
    expect(main.get('[role=alert]').text()).toContain('This post has changed elsewhere')

    const log = answerWith({ 'PATCH /posts/7': { data: { ...theirs, title: 'My words', version: 3 } } })
    await button(main, choice).trigger('click')
    await flushPromises()
    expect(main.get<HTMLTextAreaElement>('#title').element.value).toBe(title)
    expect((log.at(-1)?.body as { version?: number } | undefined)?.version).toBe(version)
    expect(main.text()).not.toContain('This post has changed elsewhere')
  })

  it('asks before it deletes', async () => {
    store.commit('auth/signedIn', ada)
    answerWith({ ...deskOf(), 'GET /posts/7': { data: draft }, 'DELETE /posts/7': { status: 204 } })
    const { main, router } = await open('/posts/7/edit')
    await button(main, 'Delete').trigger('click')
    await button(main, 'Delete it').trigger('click')
    await flushPromises()
    await eventually(() => expect(router.currentRoute.value.name).toBe('desk'))
  })

  it('saves, publishes and shows the post', async () => {
    store.commit('auth/signedIn', ada)
    const log = answerWith({
      'GET /posts/7': { data: draft },
      'PATCH /posts/7': { data: { ...draft, title: 'Better words' } },
      'POST /posts/7/publish': { data: { ...draft, published_at: '2026-01-05T00:00:00Z' } },
    })
    const { main, router } = await open('/posts/7/edit')
    await main.get('#title').setValue('Better words')
    await button(main, 'Publish').trigger('click')
    await flushPromises()
    expect(log.map(({ method, url }) => `${method} ${url}`).slice(-2)).toEqual([
      'PATCH /posts/7',
      'POST /posts/7/publish',
    ])
    await eventually(() => expect(router.currentRoute.value.fullPath).toBe('/posts/7'))
    expect(store.state.ui.toasts).toHaveLength(1)
  })
})

it('leaves a stranger’s post to its author', async () => {
  store.commit('auth/signedIn', { ...ada, id: 'u9' })
  answerWith({ 'GET /posts/7': { data: makePost('7') } })
  const { router } = await open('/posts/7/edit')
  await eventually(() => expect(router.currentRoute.value.fullPath).toBe('/posts/7'))
})
