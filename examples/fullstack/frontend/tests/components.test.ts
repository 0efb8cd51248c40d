import { flushPromises, mount } from '@vue/test-utils'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ErrorCode } from '@/api/errorCodes.gen'
import AccountMenu from '@/components/AccountMenu.vue'
import BaseButton from '@/components/BaseButton.vue'
import BaseField from '@/components/BaseField.vue'
import CommentThread from '@/components/CommentThread.vue'
import ConfirmDialog from '@/components/ConfirmDialog.vue'
import ExportRow from '@/components/ExportRow.vue'
import MarkdownEditor from '@/components/MarkdownEditor.vue'
import OfflineBanner from '@/components/OfflineBanner.vue'
import PagePicker from '@/components/PagePicker.vue'
import PostMenu from '@/components/PostMenu.vue'
import ReauthDialog from '@/components/ReauthDialog.vue'
import SearchField from '@/components/SearchField.vue'
import SortHeader from '@/components/SortHeader.vue'
import ThemeSwitch from '@/components/ThemeSwitch.vue'
import ToastHost from '@/components/ToastHost.vue'
import { ada, makePost, problem } from './backend'
import { answerWith, button, eventually, newStore, press, render, store, unmount } from './render'

beforeEach(newStore)
afterEach(unmount)

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

describe('MarkdownEditor', () => {
  it('applies a mark to the selection and shows the result', async () => {
    const { wrapper } = await render(MarkdownEditor, { props: { modelValue: 'plain bold' } })
    wrapper.get<HTMLTextAreaElement>('textarea').element.setSelectionRange(6, 10)
    await wrapper.get('[aria-label=Bold]').trigger('click')
    expect(wrapper.emitted('update:modelValue')).toEqual([['plain **bold**']])
    await wrapper.setProps({ modelValue: 'plain **bold**' })
    await eventually(() => expect(wrapper.get('.prose strong').text()).toBe('bold'))
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

  it('hands out its file, and says so when that fails', async () => {
    URL.createObjectURL = () => 'blob:x'
    URL.revokeObjectURL = () => undefined
    vi.spyOn(HTMLAnchorElement.prototype, 'click').mockImplementation(() => undefined)
    const { wrapper } = await render(ExportRow, { props: { item: { ...item, state: 'done', size: 2048 } } })
    expect(wrapper.text()).toContain('2 kB')
    answerWith({ 'GET /exports/e1/file': { data: new Blob(['%PDF']) } })
    await button(wrapper, 'Download').trigger('click')
    await flushPromises()
    expect(HTMLAnchorElement.prototype.click).toHaveBeenCalledOnce()
    answerWith({ 'GET /exports/e1/file': problem(ErrorCode.EXPORT_NOT_FOUND) })
    await button(wrapper, 'Download').trigger('click')
    await flushPromises()
    expect(store.state.ui.toasts.map(({ text }) => text)).toEqual(['Problem 40402.'])
  })

  it('can be cancelled at work, and built again when it failed', async () => {
    const log = answerWith({ 'POST /exports/e1/cancel': { data: { ...item, state: 'cancelled' } } })
    const { wrapper } = await render(ExportRow, { props: { item: { ...item, state: 'running' } } })
    await button(wrapper, 'Cancel').trigger('click')
    await flushPromises()
    expect(log.map(({ url }) => url)).toContain('/exports/e1/cancel')
    await wrapper.setProps({ item: { ...item, state: 'failed' } })
    await button(wrapper, 'Build again').trigger('click')
    expect(wrapper.emitted('retry')).toHaveLength(1)
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

describe('SearchField', () => {
  it('searches once its user pauses, and at once on Enter or when it is cleared', async () => {
    vi.useFakeTimers()
    const { wrapper } = await render(SearchField, { props: { label: 'Search', value: '' } })
    await wrapper.get('input').setValue('ti')
    await wrapper.get('input').setValue(' tide ')
    vi.advanceTimersByTime(300)
    await wrapper.setProps({ value: 'tide' })
    await wrapper.get('input').setValue('bread')
    await wrapper.get('form').trigger('submit')
    await wrapper.setProps({ value: 'bread' })
    await wrapper.get('[aria-label="Clear the search"]').trigger('click')
    expect(wrapper.emitted('search')).toEqual([['tide'], ['bread'], ['']])
    await wrapper.setProps({ value: 'from Back' })
    expect(wrapper.get('input').element.value).toBe('from Back')
    vi.useRealTimers()
  })
})

describe('SortHeader', () => {
  it.each([
    ['title', 'none', '-updated_at', 'title'],
    ['title', 'ascending', 'title', '-title'],
    ['title', 'descending', '-title', 'title'],
  ])('of %s, %s, turns %s into %s', async (name, state, sort, next) => {
    const { wrapper } = await render(SortHeader, { props: { name, sort } })
    expect(wrapper.attributes('aria-sort')).toBe(state)
    await wrapper.get('button').trigger('click')
    expect(wrapper.emitted('sort')).toEqual([[next]])
  })
})

describe('PagePicker', () => {
  it('says where one is, and goes no further than the last page', async () => {
    const { wrapper } = await render(PagePicker, { props: { page: 3, size: 10, total: 25 } })
    expect(wrapper.text()).toContain('21–25 of 25')
    expect(wrapper.get('[aria-label="Next page"]').attributes('disabled')).toBeDefined()
    await wrapper.get('[aria-label="Previous page"]').trigger('click')
    expect(wrapper.emitted('go')).toEqual([[2]])
  })
})

describe('ConfirmDialog', () => {
  it.each([
    ['Delete it', true],
    ['Cancel', false],
  ])('resolves with what was chosen: %s', async (choice, confirmed) => {
    const props = { title: 'Delete?', text: 'For good.', confirm: 'Delete it' }
    const { wrapper } = await render(ConfirmDialog, { props })
    const answer = (wrapper.vm as unknown as { ask: () => Promise<boolean> }).ask()
    await button(wrapper, choice).trigger('click')
    expect(await answer).toBe(confirmed)
  })
})

describe('ReauthDialog', () => {
  it('asks until the password is right', async () => {
    answerWith({ 'POST /auth/reauth': problem(ErrorCode.WRONG_PASSWORD) })
    const { wrapper } = await render(ReauthDialog)
    const proven = (wrapper.vm as unknown as { ask: () => Promise<boolean> }).ask()
    await flushPromises()
    await wrapper.get('[name=reauth]').setValue('wrong')
    await wrapper.get('form').trigger('submit')
    await flushPromises()
    expect(wrapper.get('[role=alert]').text()).toBe('Problem 40252.')
    answerWith({ 'POST /auth/reauth': { status: 204 } })
    await wrapper.get('form').trigger('submit')
    expect(await proven).toBe(true)
  })
})

describe('PostMenu', () => {
  it('deletes a post once that is confirmed', async () => {
    answerWith({ 'DELETE /posts/1': { status: 204 } })
    const { wrapper } = await render(PostMenu, { props: { post: makePost('1') } })
    press(wrapper.get('.menu-trigger').element)
    await eventually(() => expect(document.querySelectorAll('.menu-item')).toHaveLength(3))
    press(document.querySelectorAll('.menu-item')[2] as Element)
    await flushPromises()
    await button(wrapper, 'Delete it').trigger('click')
    await flushPromises()
    expect(wrapper.emitted('removed')).toHaveLength(1)
  })
})

describe('OfflineBanner', () => {
  it('is there while there is no network', async () => {
    const { wrapper } = await render(OfflineBanner)
    window.dispatchEvent(new Event('offline'))
    await flushPromises()
    expect(wrapper.text()).toContain('There is no network.')
    window.dispatchEvent(new Event('online'))
    await flushPromises()
    expect(wrapper.text()).toBe('')
  })
})

describe('ThemeSwitch', () => {
  it('chooses a theme', async () => {
    const { wrapper } = await render(ThemeSwitch, { props: { words: true } })
    await wrapper.get('[value=dark]').setValue()
    expect(store.state.ui.theme).toBe('dark')
    await wrapper.get('[value=system]').setValue()
  })
})
