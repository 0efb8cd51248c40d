import { createMemoryHistory, type Router } from 'vue-router'
import { beforeEach, describe, expect, it } from 'vitest'
import { ErrorCode } from '@/api/errorCodes.gen'
import { makeRouter } from '@/router'
import { safeNext } from '@/router/guards'
import { makeStore, type AppStore } from '@/store'
import { ada, fakeBackend, problem } from './backend'

let store: AppStore
let router: Router
beforeEach(() => {
  store = makeStore()
  router = makeRouter(store, createMemoryHistory())
})

describe('a guest', () => {
  beforeEach(() => void fakeBackend({ 'GET /auth/me': problem(ErrorCode.UNAUTHORIZED) }))

  it('is sent to sign in, and back to where they wanted to go', async () => {
    await router.push('/exports?from=mail')
    expect(router.currentRoute.value.name).toBe('signIn')
    expect(router.currentRoute.value.query.next).toBe('/exports?from=mail')
  })

  it('may read the front page', async () => {
    await router.push('/')
    expect(router.currentRoute.value.name).toBe('home')
    expect(document.title).toBe('Front page · Pilcrow')
  })

  it('finds out when a page is not there', async () => {
    await router.push('/no/such/page')
    expect(router.currentRoute.value.name).toBe('notFound')
  })
})

describe('the administration', () => {
  it('is for superusers', async () => {
    fakeBackend({ 'GET /auth/me': { data: { ...ada, is_superuser: true } } })
    await router.push('/admin')
    expect(router.currentRoute.value.name).toBe('users')
  })

  it('is not for anybody else', async () => {
    fakeBackend({ 'GET /auth/me': { data: ada } })
    await router.push('/admin/users')
    expect(router.currentRoute.value.name).toBe('forbidden')
  })

  it('asks a guest to sign in', async () => {
    fakeBackend({ 'GET /auth/me': problem(ErrorCode.UNAUTHORIZED) })
    await router.push('/admin/users')
    expect(router.currentRoute.value.fullPath).toBe('/signin?next=/admin/users')
  })
})

describe('someone who is signed in', () => {
  it('gets to their pages, and is asked for once', async () => {
    const log = fakeBackend({ 'GET /auth/me': { data: ada } })
    await Promise.all([router.push('/'), router.push('/desk')])
    await router.push('/exports')
    expect(router.currentRoute.value.name).toBe('exports')
    expect(log).toHaveLength(1)
  })

  it.each([
    ['/signin', '/desk'],
    ['/signin?next=/exports', '/exports'],
    ['/signup?next=//evil.example', '/desk'],
  ])('has no use for %s', async (from, to) => {
    fakeBackend({ 'GET /auth/me': { data: ada } })
    await router.push(from)
    expect(router.currentRoute.value.fullPath).toBe(to)
  })
})

it('fails a navigation that needs to know who is there while nobody can tell', async () => {
  fakeBackend({})
  router.onError(() => undefined)
  await expect(router.push('/desk')).rejects.toMatchObject({ kind: 'network' })
})

describe('safeNext', () => {
  it.each(['/', '/desk', '/posts/1?size=2#comments'])('goes on to %s', (next) => {
    expect(safeNext(next)).toBe(next)
  })

  it.each([
    undefined,
    ['/a', '/b'],
    '',
    'desk',
    'https://evil.example',
    '//evil.example',
    '/\\evil.example',
    '/\t/evil.example',
    '/\n/evil.example',
    'javascript:alert(1)',
  ])('never goes to %j', (next) => {
    expect(safeNext(next)).toBe('/desk')
  })
})
