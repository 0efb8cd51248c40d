import { flushPromises } from '@vue/test-utils'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ErrorCode } from '@/api/errorCodes.gen'
import type { Session } from '@/api/types'
import { describeDevice } from '@/utils/userAgent'
import { ada, deskOf, problem } from './backend'
import { answerWith, button, eventually, newStore, open, press, store, unmount } from './render'

beforeEach(newStore)
afterEach(unmount)

function follow(hash: string): void {
  history.replaceState(null, '', `/${hash}`)
}

const CHROME =
  'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36'

function makeSession(id: string, changes: Partial<Session> = {}): Session {
  const then = '2026-01-01T00:00:00Z'
  return {
    ...{ id, current: false, ip: '127.0.0.1', user_agent: CHROME, remember: true },
    ...{ created_at: then, last_seen_at: then, expires_at: then, ...changes },
  }
}

describe('SignUpView', () => {
  it('makes an account and says that a mail is on its way', async () => {
    answerWith({ ...deskOf(), 'POST /auth/signup': { status: 201, data: ada } })
    const { main, router } = await open('/signup')
    await main.get('[name=email]').setValue('ada@example.com')
    await main.get('form').trigger('submit')
    await flushPromises()
    await eventually(() => expect(router.currentRoute.value.name).toBe('desk'))
    expect(store.state.ui.toasts[0]?.text).toContain('ada@example.com')
  })
})

describe('ForgotPasswordView', () => {
  it('gives an answer that says nothing about who has an account, and waits before it sends again', async () => {
    vi.useFakeTimers()
    const log = answerWith({ 'POST /auth/password/forgot': { status: 202 } })
    const { main } = await open('/forgot-password')
    await main.get('[name=email]').setValue('ada@example.com')
    await main.get('form').trigger('submit')
    await vi.advanceTimersByTimeAsync(0)
    expect(main.text()).toContain('If ada@example.com has an account here')
    await main.get('form').trigger('submit')
    expect(button(main, 'Again in 30 s').attributes('disabled')).toBeDefined()
    await vi.advanceTimersByTimeAsync(30_000)
    expect(button(main, 'Send it again').attributes('disabled')).toBeUndefined()
    expect(log.filter(({ method }) => method === 'POST')).toHaveLength(1)
    vi.useRealTimers()
  })
})

describe('ResetPasswordView', () => {
  it('sets a new password with the token of the link, which it takes out of the address', async () => {
    follow('reset-password#token=secret')
    const log = answerWith({ 'POST /auth/password/reset': { status: 204 } })
    const { main, router } = await open('/reset-password')
    expect(location.hash).toBe('')
    await main.get('[name=new]').setValue('a quiet desk')
    await main.get('form').trigger('submit')
    await flushPromises()
    expect(log.at(-1)?.body).toEqual({ token: 'secret', new: 'a quiet desk' })
    await eventually(() => expect(router.currentRoute.value.name).toBe('signIn'))
  })

  it('says that a link is spent, and offers another', async () => {
    follow('reset-password#token=old')
    answerWith({ 'POST /auth/password/reset': problem(ErrorCode.INVALID_TOKEN) })
    const { main } = await open('/reset-password')
    await main.get('form').trigger('submit')
    await flushPromises()
    expect(main.text()).toContain('This link is spent')
    expect(main.get('.button').attributes('href')).toBe('/forgot-password')
  })
})

describe('ProveEmailView', () => {
  it('verifies the address, and the rest of the app knows', async () => {
    follow('verify-email#token=secret')
    store.commit('auth/signedIn', { ...ada, email_verified: false })
    const log = answerWith({ 'GET /auth/me': { data: ada }, 'POST /auth/email/verify': { status: 204 } })
    const { main } = await open('/verify-email')
    await flushPromises()
    expect(main.text()).toContain('Your address is verified')
    expect(log[0]?.body).toEqual({ token: 'secret' })
    expect(store.state.auth.user?.email_verified).toBe(true)
  })

  it('confirms a new address', async () => {
    follow('confirm-email#token=secret')
    answerWith({ 'POST /auth/email/change/confirm': { status: 204 } })
    const { main } = await open('/confirm-email')
    await flushPromises()
    expect(main.text()).toContain('Your new address is confirmed')
  })

  it('tries again when the server could not be reached, and knows a spent link', async () => {
    follow('verify-email#token=secret')
    answerWith({})
    const { main } = await open('/verify-email')
    await flushPromises()
    answerWith({ 'POST /auth/email/verify': problem(ErrorCode.INVALID_TOKEN) })
    await button(main, 'Try again').trigger('click')
    await flushPromises()
    expect(main.text()).toContain('This link is spent')
  })

  it('needs a token', async () => {
    follow('')
    answerWith({})
    const { main } = await open('/verify-email')
    expect(main.text()).toContain('This link is spent')
  })
})

describe('settings', () => {
  beforeEach(() => store.commit('auth/signedIn', { ...ada, email_verified: false }))

  it('send the mail again, once a minute', async () => {
    answerWith({ 'POST /auth/email/verify/resend': { status: 202 } })
    const { main } = await open('/settings')
    await button(main, 'Send the mail again').trigger('click')
    await flushPromises()
    expect(button(main, 'Again in 60 s').attributes('disabled')).toBeDefined()
  })

  it('give a pen name', async () => {
    const log = answerWith({ 'PATCH /auth/me': { data: { ...ada, pen_name: 'A. L.' } } })
    const { main } = await open('/settings/profile')
    await main.get('[name=pen_name]').setValue(' A. L. ')
    await main.get('form').trigger('submit')
    await flushPromises()
    expect(log.at(-1)?.body).toEqual({ pen_name: 'A. L.' })
    expect(store.getters['auth/name']).toBe('A. L.')
  })

  it('hand out all that is kept, and delete the account once that is confirmed', async () => {
    URL.createObjectURL = () => 'blob:x'
    vi.spyOn(HTMLAnchorElement.prototype, 'click').mockImplementation(() => undefined)
    answerWith({
      'GET /auth/me/export': { data: new Blob(['{}']) },
      'DELETE /auth/me': problem(ErrorCode.SERVER),
    })
    const { main, router } = await open('/settings/data')
    await button(main, 'Download').trigger('click')
    await flushPromises()
    expect(HTMLAnchorElement.prototype.click).toHaveBeenCalledOnce()
    await button(main, 'Delete my account').trigger('click')
    await button(main, 'Delete it').trigger('click')
    await flushPromises()
    expect(store.getters['auth/isSignedIn']).toBe(true)
    answerWith({ 'DELETE /auth/me': { status: 204 } })
    await button(main, 'Delete my account').trigger('click')
    await button(main, 'Delete it').trigger('click')
    await flushPromises()
    await eventually(() => expect(router.currentRoute.value.name).toBe('home'))
    expect(store.getters['auth/isSignedIn']).toBe(false)
  })

  it('change the address by a mail to the new one', async () => {
    answerWith({ 'POST /auth/email/change': { status: 202 } })
    const { main } = await open('/settings/profile')
    await main.get('[name=email]').setValue('new@example.com')
    await main.findAll('form')[1]?.trigger('submit')
    await flushPromises()
    expect(main.text()).toContain('Follow the link in the mail to new@example.com.')
  })

  it('change the password, and say beside the field that the current one is wrong', async () => {
    answerWith({ 'POST /auth/password/change': problem(ErrorCode.WRONG_PASSWORD) })
    const { main } = await open('/settings/password')
    await main.get('form').trigger('submit')
    await flushPromises()
    expect(main.get('[name=current]').attributes('aria-invalid')).toBe('true')
    answerWith({ 'POST /auth/password/change': { status: 204 } })
    await main.get('form').trigger('submit')
    await flushPromises()
    expect(store.state.ui.toasts).toHaveLength(1)
  })

  it('list the devices, and end one of them or all others', async () => {
    const sessions = [makeSession('1', { current: true }), makeSession('2', { user_agent: 'curl/8.0' })]
    const log = answerWith({
      'GET /auth/sessions': { data: sessions },
      'DELETE /auth/sessions/2': { status: 204 },
      'POST /auth/sessions/revoke-others': problem(ErrorCode.SERVER),
    })
    const { main } = await open('/settings/sessions')
    expect(main.findAll('li').map((item) => item.get('.name').text())).toEqual([
      'Chrome on Linux This device',
      'curl',
    ])
    await button(main, 'Sign out').trigger('click')
    await flushPromises()
    expect(log.map(({ method, url }) => `${method} ${url}`)).toContain('DELETE /auth/sessions/2')
    await button(main, 'Sign out all others').trigger('click')
    await flushPromises()
    expect(store.state.ui.toasts.map(({ tone }) => tone)).toEqual(['good', 'bad'])
  })

  it('change the language of the page they are on', async () => {
    answerWith({})
    const { main } = await open('/settings/appearance')
    await main.get('[value=de]').trigger('change')
    await eventually(() => expect(main.text()).toContain('Sprache'))
    await store.dispatch('ui/setLanguage', 'en')
  })
})

describe('a request that wants a recent proof', () => {
  it('is sent again once the password was given', async () => {
    store.commit('auth/signedIn', ada)
    let proven = false
    answerWith({
      'GET /auth/sessions': { data: [makeSession('2')] },
      'DELETE /auth/sessions/2': () =>
        proven ? { status: 204 } : problem(ErrorCode.REAUTHENTICATION_REQUIRED),
      'POST /auth/reauth': () => {
        proven = true
        return { status: 204 }
      },
    })
    const { main, wrapper } = await open('/settings/sessions')
    await button(main, 'Sign out').trigger('click')
    await flushPromises()
    const form = wrapper.get('dialog form')
    await form.get('[name=reauth]').setValue('secret')
    await form.trigger('submit')
    await flushPromises()
    expect(store.state.ui.toasts.map(({ text }) => text)).toEqual(['Signed out, at once.'])
  })
})

describe('the administration of users', () => {
  const bo = { ...ada, id: 'u2', email: 'bo@example.com', is_active: true, last_signin_at: null }

  /** Opens the menu of the only row, and chooses from it. */
  async function choose(main: Awaited<ReturnType<typeof open>>['main'], item: number) {
    press(main.get('.menu-trigger').element)
    await eventually(() => expect(document.querySelectorAll('.menu-item')).toHaveLength(3))
    press(document.querySelectorAll('.menu-item')[item] as Element)
    await eventually(() => expect(document.querySelectorAll('.menu-item')).toHaveLength(0))
    await flushPromises()
  }

  it('locks somebody out and lets them in again', async () => {
    store.commit('auth/signedIn', { ...ada, is_superuser: true })
    answerWith({
      'GET /users': ({ params }) => ({
        data: params.cursor
          ? { items: [{ ...bo, id: 'u3', email: 'cy@example.com' }], next_cursor: null }
          : { items: [bo], next_cursor: 'c' },
      }),
      'POST /users/u2/disable': { data: { ...bo, is_active: false } },
      'POST /users/u2/enable': problem(ErrorCode.SERVER),
      'POST /users/u2/reset-password': { status: 202 },
      'POST /users/u2/sessions/revoke': { status: 204 },
    })
    const { main } = await open('/admin')
    await eventually(() => expect(main.findAll('tbody tr')).toHaveLength(1))
    await choose(main, 2)
    expect(main.text()).toContain('Locked out')
    await choose(main, 2)
    await choose(main, 0)
    await choose(main, 1)
    expect(store.state.ui.toasts.map(({ tone }) => tone)).toEqual(['good', 'bad', 'good', 'good'])
    await button(main, 'Load more').trigger('click')
    await flushPromises()
    expect(main.findAll('tbody tr')).toHaveLength(2)
  })

  it('finds somebody, and keeps that in the address', async () => {
    store.commit('auth/signedIn', { ...ada, is_superuser: true })
    const log = answerWith({ 'GET /users': { data: { items: [], next_cursor: null } } })
    const { main } = await open('/admin/users?q=bo')
    await eventually(() => expect(main.text()).toContain('Nothing here matches “bo”.'))
    expect(log.find(({ url }) => url === '/users')?.params.q).toBe('bo')
  })

  it('says why it could not be shown', async () => {
    store.commit('auth/signedIn', { ...ada, is_superuser: true })
    answerWith({ 'GET /users': problem(ErrorCode.SERVER) })
    const { main } = await open('/admin/users')
    await eventually(() => expect(main.text()).toContain('r-1'))
  })
})

it.each([
  [CHROME, { browser: 'Chrome', system: 'Linux', phone: false }],
  [
    'Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Mobile/15E148 Safari/604.1',
    { browser: 'Safari', system: 'iPhone', phone: true },
  ],
  [
    'Mozilla/5.0 (Windows NT 10.0; rv:140.0) Gecko/20100101 Firefox/140.0',
    { browser: 'Firefox', system: 'Windows', phone: false },
  ],
  ['curl/8.0', null],
  [null, null],
])('reads %s', (userAgent, device) => {
  expect(describeDevice(userAgent)).toEqual(device)
})
