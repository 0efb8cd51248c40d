import { flushPromises } from '@vue/test-utils'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ErrorCode } from '@/api/errorCodes.gen'
import type { Task } from '@/api/types'
import { allIsWell, openAnew, watchChunks } from '@/utils/staleChunk'
import { ada, deskOf, problem } from './backend'
import { answerWith, button, eventually, newStore, open, store, unmount } from './render'

const challenge = { mfa_required: true, challenge: 'c', factors: ['totp'] }
const passkey = { id: 'p1', name: 'Phone', created_at: '2026-01-01T00:00:00Z', last_used_at: null }
const credential = { toJSON: () => ({ id: 'made' }) }

beforeEach(newStore)
afterEach(() => {
  unmount()
  vi.unstubAllGlobals()
})

/** A browser that has passkeys, and makes or finds one when asked. */
function stubPasskeys(): void {
  const parse = (options: unknown) => options
  vi.stubGlobal('PublicKeyCredential', {
    parseCreationOptionsFromJSON: parse,
    parseRequestOptionsFromJSON: parse,
  })
  const credentials = { create: () => Promise.resolve(credential), get: () => Promise.resolve(credential) }
  Object.defineProperty(navigator, 'credentials', { value: credentials, configurable: true })
}

describe('signing in with a second factor', () => {
  async function askForCode(verify: ReturnType<typeof problem>) {
    const log = answerWith({
      ...deskOf(),
      'POST /auth/signin': { data: challenge },
      'POST /auth/mfa/verify': verify,
    })
    const opened = await open('/signin')
    await opened.main.get('form').trigger('submit')
    await flushPromises()
    expect(opened.main.text()).toContain('One more thing')
    return { ...opened, log }
  }

  it('asks for a code, or for a recovery code', async () => {
    const { main, log, router } = await askForCode({ data: ada })
    await button(main, 'Use a recovery code').trigger('click')
    await main.get('[name=code]').setValue(' abcd-efgh ')
    await main.get('form').trigger('submit')
    await flushPromises()
    expect(log.at(-1)?.url).not.toBe('/auth/signin')
    expect(log.find(({ url }) => url === '/auth/mfa/verify')?.body).toEqual({
      challenge: 'c',
      code: 'abcd-efgh',
    })
    await eventually(() => expect(router.currentRoute.value.name).toBe('desk'))
  })

  it('says that a code is wrong, and begins anew after too many', async () => {
    const { main } = await askForCode(problem(ErrorCode.INVALID_FACTOR))
    await main.get('form').trigger('submit')
    await flushPromises()
    expect(main.get('[role=alert]').text()).toBe('Problem 40160.')
    answerWith({ 'POST /auth/mfa/verify': problem(ErrorCode.INVALID_TOKEN) })
    await main.get('form').trigger('submit')
    await flushPromises()
    expect(main.text()).toContain('Welcome back')
  })

  it('may be given up', async () => {
    const { main } = await askForCode({ data: ada })
    await button(main, 'Back to signing in').trigger('click')
    expect(store.state.auth.challenge).toBeNull()
  })

  it('needs no password with a passkey', async () => {
    stubPasskeys()
    const log = answerWith({
      ...deskOf(),
      'POST /auth/passkeys/signin/options': { data: { options: {} } },
      'POST /auth/passkeys/signin': { data: ada },
    })
    const { main, router } = await open('/signin')
    await button(main, 'Sign in with a passkey').trigger('click')
    await eventually(() => expect(router.currentRoute.value.name).toBe('desk'))
    expect(log.find(({ url }) => url === '/auth/passkeys/signin')?.body).toEqual({
      credential: { id: 'made' },
      remember: true,
    })
  })
})

describe('the settings for two factors', () => {
  beforeEach(() => store.commit('auth/signedIn', ada))

  it('set an app up, and show the recovery codes once', async () => {
    Object.defineProperty(navigator, 'clipboard', { value: { writeText: vi.fn() }, configurable: true })
    URL.createObjectURL = () => 'blob:x'
    vi.spyOn(HTMLAnchorElement.prototype, 'click').mockImplementation(() => undefined)
    let on = false
    answerWith({
      'GET /auth/mfa': () => ({ data: { totp: on, recovery_codes_left: on ? 10 : 0 } }),
      'GET /auth/passkeys': { data: [] },
      'POST /auth/mfa/totp/setup': { data: { secret: 'S3CRET', url: 'otpauth:', qr: 'data:,' } },
      'POST /auth/mfa/totp/confirm': () => {
        on = true
        return { data: { recovery_codes: ['one', 'two'] } }
      },
    })
    const { main } = await open('/settings/security')
    await button(main, 'Set it up').trigger('click')
    await flushPromises()
    expect(main.text()).toContain('S3CRET')
    await main.get('[name=code]').setValue('123456')
    await main.get('form').trigger('submit')
    await flushPromises()
    expect(main.findAll('.recovery code').map((code) => code.text())).toEqual(['one', 'two'])
    await button(main, 'Copy').trigger('click')
    await button(main, 'Save as a file').trigger('click')
    await button(main, 'I have kept them').trigger('click')
    expect(main.text()).toContain('10 recovery codes left')
  })

  it('renew the recovery codes, and turn it off', async () => {
    answerWith({
      'GET /auth/mfa': { data: { totp: true, recovery_codes_left: 1 } },
      'GET /auth/passkeys': { data: [] },
      'POST /auth/mfa/recovery-codes': problem(ErrorCode.WRONG_CODE),
      'POST /auth/mfa/totp/disable': { status: 204 },
    })
    const { main } = await open('/settings/security')
    expect(main.text()).toContain('1 recovery code left')
    await button(main, 'New recovery codes').trigger('click')
    await main.get('form').trigger('submit')
    await flushPromises()
    expect(main.get('[role=alert]').text()).toBe('Problem 40260.')
    await button(main, 'Cancel').trigger('click')
    await button(main, 'Turn it off').trigger('click')
    await main.get('form').trigger('submit')
    await flushPromises()
    expect(store.state.ui.toasts).toHaveLength(1)
  })

  it('add a passkey and remove it', async () => {
    stubPasskeys()
    const kept = [passkey]
    const log = answerWith({
      'GET /auth/mfa': { data: { totp: false, recovery_codes_left: 0 } },
      'GET /auth/passkeys': () => ({ data: [...kept] }),
      'POST /auth/passkeys/options': { data: { options: {} } },
      'POST /auth/passkeys': { status: 201, data: passkey },
      'DELETE /auth/passkeys/p1': () => {
        kept.pop()
        return { status: 204 }
      },
    })
    const { main } = await open('/settings/security')
    await main.get('[name=name]').setValue('Laptop')
    await main.get('form').trigger('submit')
    await flushPromises()
    expect(log.find(({ method, url }) => method === 'POST' && url === '/auth/passkeys')?.body).toEqual({
      name: 'Laptop',
      credential: { id: 'made' },
    })
    await button(main, 'Remove').trigger('click')
    await flushPromises()
    expect(main.text()).not.toContain('Phone')
  })
})

describe('the keys for programs', () => {
  const key = {
    ...{ id: 'k1', name: 'Backup', prefix: 'ak_1234', scopes: null, created_at: '2026-01-01T00:00:00Z' },
    ...{ expires_at: '2026-04-01T12:00:00Z', last_used_at: null, valid: true },
  }

  it('are shown once, and can be revoked', async () => {
    const writeText = vi.fn()
    Object.defineProperty(navigator, 'clipboard', { value: { writeText }, configurable: true })
    store.commit('auth/signedIn', ada)
    const kept: unknown[] = []
    const log = answerWith({
      'GET /auth/api-keys': () => ({ data: [...kept] }),
      'POST /auth/api-keys': () => {
        kept.push(key)
        return { status: 201, data: { ...key, key: 'ak_1234_secret' } }
      },
      'DELETE /auth/api-keys/k1': () => {
        kept.pop()
        return { status: 204 }
      },
    })
    const { main } = await open('/settings/keys')
    await main.get('[name=name]').setValue('Backup')
    await main.get('form').trigger('submit')
    await flushPromises()
    expect(log.find(({ method }) => method === 'POST')?.body).toEqual({ name: 'Backup', days: 90 })
    expect(main.text()).toContain('Good until 1 April 2026')
    await button(main, 'Copy').trigger('click')
    expect(writeText).toHaveBeenCalledWith('ak_1234_secret')
    expect(main.findAll('li')).toHaveLength(1)
    await button(main, 'Revoke').trigger('click')
    await flushPromises()
    expect(main.text()).not.toContain('ak_1234')
    expect(main.text()).toContain('No keys yet')
  })

  it('may be good until they are revoked', async () => {
    store.commit('auth/signedIn', ada)
    const endless = { ...key, expires_at: null, last_used_at: '2026-01-02T12:00:00Z', valid: false }
    const log = answerWith({
      'GET /auth/api-keys': { data: [endless] },
      'POST /auth/api-keys': { status: 201, data: { ...endless, key: 'ak_1234_secret' } },
    })
    const { main } = await open('/settings/keys')
    await main.get('select').setValue('')
    await main.get('form').trigger('submit')
    await flushPromises()
    expect(log.find(({ method }) => method === 'POST')?.body).toMatchObject({ days: null })
    expect(main.get('li').text()).toContain('Good until revoked')
    expect(main.get('li').text()).toContain('Used 2 January 2026')
    expect(main.get('li').text()).toContain('Void')
  })
})

describe('the administration of tasks', () => {
  const task = {
    ...{ task_id: 't1', task_name: 'exports:make_export', state: 'dead', queue: 'default', priority: 0 },
    ...{ attempts: 5, last_error: 'Broken.', created_at: '2026-01-01T00:00:00Z' },
  } as Task
  const figures = { depth: { default: { pending: 2, running: 1 } }, dead: 1, oldest_pending: 0, rescued: 0 }

  it('tries again what was given up, and cancels what waits', async () => {
    store.commit('auth/signedIn', { ...ada, is_superuser: true })
    const log = answerWith({
      'GET /tasks': {
        data: { items: [task, { ...task, task_id: 't2', state: 'pending' }], next_cursor: null },
      },
      'GET /tasks/stats': { data: figures },
      'POST /tasks/t1/retry': { data: { ...task, state: 'done' } },
      'POST /tasks/t2/cancel': problem(ErrorCode.CONFLICT),
    })
    const { main } = await open('/admin/tasks?state=dead')
    await eventually(() => expect(main.findAll('tbody tr')).toHaveLength(2))
    expect(log.find(({ url }) => url === '/tasks')?.params).toMatchObject({ state: 'dead' })
    expect(main.findAll('dd').map((figure) => figure.text())).toEqual(['2', '1', '1'])
    await button(main, 'Try again').trigger('click')
    await flushPromises()
    expect(main.get('tbody .chip').text()).toBe('Done')
    await button(main, 'Cancel').trigger('click')
    await flushPromises()
    expect(store.state.ui.toasts.map(({ tone }) => tone)).toEqual(['bad'])
  })

  it('says that there are none', async () => {
    store.commit('auth/signedIn', { ...ada, is_superuser: true })
    answerWith({ 'GET /tasks': { data: { items: [] } }, 'GET /tasks/stats': { data: figures } })
    const { main, router } = await open('/admin/tasks')
    await eventually(() => expect(main.text()).toContain('No tasks here.'))
    await button(main, 'Dead').trigger('click')
    await flushPromises()
    expect(router.currentRoute.value.fullPath).toBe('/admin/tasks?state=dead')
  })
})

describe('the audit trail', () => {
  const entry = {
    ...{ id: 'a1', created_at: '2026-01-01T00:00:00Z', kind: 'UserSignedIn', actor_id: null, subject: 'u1' },
    data: { user_id: 'u1', session_id: '01a21901-a97a-764b-b605-1661b602991c', ip: '::1', by: null },
  }
  const locked = {
    ...{ id: 'a2', created_at: '2026-01-02T00:00:00Z', kind: 'RoleGranted', actor_id: 'u1', subject: 'u2' },
    data: { user_id: 'u2', by: 'u1', role: null, scopes: ['posts'], lasting: true },
  }
  const people = {
    'GET /users/u1': { data: { ...ada, is_active: true } },
    'GET /users/u2': problem(ErrorCode.NOT_FOUND),
  }

  beforeEach(() => store.commit('auth/signedIn', { ...ada, is_superuser: true }))

  it('says what happened, who did it and to whom', async () => {
    answerWith({ ...people, 'GET /audit': { data: { items: [locked, entry], next_cursor: null } } })
    const { main } = await open('/admin/audit')
    await eventually(() => expect(main.findAll('tbody button')).toHaveLength(2))
    await eventually(() => expect(main.get('tbody button').text()).toBe('ada@example.com'))
    const rows = main.findAll('tbody tr')
    const [first, second] = rows.map((row) => row.findAll('th, td').map((cell) => cell.text()))
    expect(first?.slice(1)).toEqual([
      'Role granted',
      'ada@example.com',
      'about …u2scopes ["posts"]lasting yes',
    ])
    expect(second?.slice(1)).toEqual(['Signed in', 'ada@example.com', 'session …b602991cip ::1'])
  })

  it('shows all of it, or what is of one kind, of one person or of late', async () => {
    const log = answerWith({
      ...people,
      'GET /audit': ({ params }) => ({
        data: { items: params.cursor ? [] : [entry], next_cursor: params.cursor ? null : 'c' },
      }),
    })
    const asked = () => log.filter(({ url }) => url === '/audit').at(-1)?.params
    const { main, router } = await open('/admin/audit?kind=RoleGranted')
    await eventually(() => expect(main.find('tbody').exists()).toBe(true))
    expect(asked()?.kind).toBe('RoleGranted')
    await button(main, 'Load more').trigger('click')
    await flushPromises()
    expect(asked()?.cursor).toBe('c')
    await main.get('select').setValue('UserSignedIn')
    await flushPromises()
    await button(main, 'ada@example.com').trigger('click')
    await flushPromises()
    await button(main, '7 days').trigger('click')
    await flushPromises()
    expect(router.currentRoute.value.query).toEqual({ kind: 'UserSignedIn', person: 'u1', since: 'week' })
    expect(asked()).toMatchObject({ kind: 'UserSignedIn', subject: 'u1' })
    expect(new Date(String(asked()?.since)).getHours()).toBe(0)
    await main.get('.filters button').trigger('click')
    await flushPromises()
    expect(asked()).toMatchObject({ kind: 'UserSignedIn', subject: undefined })
  })

  it('says that there is nothing', async () => {
    answerWith({ 'GET /audit': { data: { items: [], next_cursor: null } } })
    const { main } = await open('/admin/audit')
    await eventually(() => expect(main.text()).toContain('Nothing of this kind has happened.'))
  })
})

describe('a chunk that is gone after a deploy', () => {
  afterEach(allIsWell)

  it('has the wanted page opened anew, once', () => {
    const opened: string[] = []
    const go = (path: string) => void opened.push(path)
    expect(openAnew('/exports', go)).toBe(false)
    watchChunks()
    window.dispatchEvent(new Event('vite:preloadError'))
    expect(openAnew('/exports', go)).toBe(true)
    expect(openAnew('/exports', go)).toBe(false)
    expect(opened).toEqual(['/exports'])
  })
})
