import { flushPromises, mount, type VueWrapper } from '@vue/test-utils'
import { createMemoryHistory } from 'vue-router'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Component } from 'vue'
import { ErrorCode } from '@/api/errorCodes.gen'
import App from '@/App.vue'
import AccountMenu from '@/components/AccountMenu.vue'
import BaseButton from '@/components/BaseButton.vue'
import BaseField from '@/components/BaseField.vue'
import CommentThread from '@/components/CommentThread.vue'
import ExportRow from '@/components/ExportRow.vue'
import MarkdownEditor from '@/components/MarkdownEditor.vue'
import ToastHost from '@/components/ToastHost.vue'
import { makeRouter } from '@/router'
import { makeStore, storeKey, type AppStore } from '@/store'
import { ada, fakeBackend, makePost, problem, type Answer } from './backend'

let store: AppStore
let mounted: VueWrapper | undefined

beforeEach(() => {
  store = makeStore()
})
afterEach(() => {
  mounted?.unmount()
})

async function render(component: Component, { props = {}, at = '/' } = {}) {
  const router = makeRouter(store, createMemoryHistory())
  await router.push(at)
  const wrapper = mount(component, {
    props,
    global: { plugins: [router], provide: { [storeKey as symbol]: store } },
    attachTo: document.body,
  })
  mounted = wrapper
  await flushPromises()
  return { wrapper, router }
}

/** The whole app, on one of its pages. */
async function open(at: string) {
  const opened = await render(App, { at })
  return { ...opened, main: opened.wrapper.get('main') }
}

function answerWith(table: Record<string, Answer>) {
  return fakeBackend({ 'GET /auth/me': problem(ErrorCode.UNAUTHORIZED), ...table })
}

describe('BaseField', () => {
  it('connects its input with the label and with what is wrong', async () => {
    const wrapper = mount(BaseField, {
      props: { modelValue: '', label: 'E-mail', name: 'email', error: 'Not one.' },
    })
    const input = wrapper.get('input')
    expect(wrapper.get('label').attributes('for')).toBe(input.attributes('id'))
    expect(input.attributes('aria-invalid')).toBe('true')
    expect(wrapper.get(`[id="${input.attributes('aria-describedby')}"]`).text()).toBe('Not one.')
    await input.setValue('a@b.example')
    expect(wrapper.emitted('update:modelValue')).toEqual([['a@b.example']])
  })
})

describe('BaseButton', () => {
  it('hears no further press while it is busy', async () => {
    let presses = 0
    const { wrapper } = await render(BaseButton, { props: { busy: true, onClick: () => presses++ } })
    await wrapper.trigger('click')
    expect(presses).toBe(0)
    expect(wrapper.attributes('aria-busy')).toBe('true')
    await wrapper.setProps({ busy: false })
    await wrapper.trigger('click')
    expect(presses).toBe(1)
  })
})

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
    await vi.waitFor(() => expect(router.currentRoute.value.fullPath).toBe('/exports'))
  })

  it('says a wrong password in one sentence for the whole form', async () => {
    answerWith({ 'POST /auth/signin': problem(ErrorCode.INVALID_CREDENTIALS) })
    const { main } = await open('/signin')
    await main.get('form').trigger('submit')
    await flushPromises()
    expect(main.get('[role=alert]').text()).toBe('Problem 40151.')
  })
})

describe('AccountMenu', () => {
  it('opens, closes on Escape, and gives the focus back', async () => {
    store.commit('auth/signedIn', ada)
    const { wrapper } = await render(AccountMenu)
    const trigger = wrapper.get<HTMLButtonElement>('button[aria-controls]')
    await trigger.trigger('click')
    expect(trigger.attributes('aria-expanded')).toBe('true')
    await wrapper.get('.panel a').trigger('keydown', { key: 'Escape' })
    expect(trigger.attributes('aria-expanded')).toBe('false')
    expect(document.activeElement).toBe(trigger.element)
  })

  it('signs out and leaves for the front page', async () => {
    answerWith({ 'POST /auth/signout': { status: 204 } })
    store.commit('auth/signedIn', ada)
    const { wrapper, router } = await render(AccountMenu, { at: '/desk' })
    await wrapper.get('.sign-out').trigger('click')
    await flushPromises()
    expect(store.getters['auth/isSignedIn']).toBe(false)
    expect(router.currentRoute.value.name).toBe('home')
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
  it('tells drafts from published posts', async () => {
    answerWith({
      'GET /exports': { data: [] },
      'GET /posts/mine': {
        data: { items: [makePost('1'), makePost('2', { published_at: null })], next_cursor: null },
      },
    })
    store.commit('auth/signedIn', ada)
    const { main } = await open('/desk')
    expect(main.findAll('.chip').map((chip) => chip.text())).toEqual(['Published', 'Draft'])
    await main.get('.filters button:nth-child(2)').trigger('click')
    expect(main.findAll('.posts li')).toHaveLength(1)
  })
})

describe('EditorView', () => {
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

  it('saves, publishes and shows the post', async () => {
    store.commit('auth/signedIn', ada)
    const log = answerWith({
      'GET /posts/7': { data: draft },
      'PATCH /posts/7': { data: { ...draft, title: 'Better words' } },
      'POST /posts/7/publish': { data: { ...draft, published_at: '2026-01-05T00:00:00Z' } },
    })
    const { main, router } = await open('/posts/7/edit')
    await main.get('#title').setValue('Better words')
    const publish = main.findAll('button').find((button) => button.text() === 'Publish')
    await publish?.trigger('click')
    await flushPromises()
    expect(log.map(({ method, url }) => `${method} ${url}`).slice(-2)).toEqual([
      'PATCH /posts/7',
      'POST /posts/7/publish',
    ])
    await vi.waitFor(() => expect(router.currentRoute.value.fullPath).toBe('/posts/7'))
    expect(store.state.ui.toasts).toHaveLength(1)
  })
})

it('leaves a stranger’s post to its author', async () => {
  store.commit('auth/signedIn', { ...ada, id: 'u9' })
  answerWith({ 'GET /posts/7': { data: makePost('7') } })
  const { router } = await open('/posts/7/edit')
  await vi.waitFor(() => expect(router.currentRoute.value.fullPath).toBe('/posts/7'))
})

describe('MarkdownEditor', () => {
  it('applies a mark to the selection and shows the result', async () => {
    const wrapper = mount(MarkdownEditor, { props: { modelValue: 'plain bold' }, attachTo: document.body })
    mounted = wrapper
    wrapper.get<HTMLTextAreaElement>('textarea').element.setSelectionRange(6, 10)
    await wrapper.get('[aria-label=Bold]').trigger('click')
    expect(wrapper.emitted('update:modelValue')).toEqual([['plain **bold**']])
    await wrapper.setProps({ modelValue: 'plain **bold**' })
    await vi.waitFor(() => expect(wrapper.get('.prose strong').text()).toBe('bold'))
  })
})

describe('ExportRow', () => {
  const item = {
    id: 'e1',
    progress: 40,
    step: 'Setting the pages',
    created_at: '2026-01-01T00:00:00Z',
    expires_at: '2026-01-08T00:00:00Z',
    size: null,
  }

  it('says how far it is', async () => {
    const { wrapper } = await render(ExportRow, { props: { item: { ...item, state: 'running' } } })
    expect(wrapper.get('[role=progressbar]').attributes('aria-valuenow')).toBe('40')
    expect(wrapper.get('[role=status]').text()).toBe('Setting the pages')
  })

  it('has no number while it waits', async () => {
    const { wrapper } = await render(ExportRow, { props: { item: { ...item, state: 'queued' } } })
    expect(wrapper.get('[role=progressbar]').attributes('aria-valuenow')).toBeUndefined()
  })
})

describe('CommentThread', () => {
  it('invites guests to sign in, and back', async () => {
    answerWith({})
    const { wrapper } = await render(CommentThread, { at: '/posts/1' })
    await flushPromises()
    expect(wrapper.get('.invitation a').attributes('href')).toBe('/signin?next=/posts/1')
  })
})

describe('ToastHost', () => {
  it('tells good news politely and bad news at once', async () => {
    const { wrapper } = await render(ToastHost)
    await store.dispatch('ui/toast', { text: 'Saved.' })
    await store.dispatch('ui/toast', { text: 'Not saved.', tone: 'bad' })
    expect(wrapper.get('[aria-live=polite]').text()).toBe('Saved.')
    expect(wrapper.get('[aria-live=assertive]').text()).toBe('Not saved.')
    await wrapper.get('[aria-live=assertive] button').trigger('click')
    expect(store.state.ui.toasts).toHaveLength(1)
  })
})
