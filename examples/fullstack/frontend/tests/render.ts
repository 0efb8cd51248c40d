/** Mounts a component, or the whole app on one of its pages, with a store and a router of its own. */
import { flushPromises, mount, type VueWrapper } from '@vue/test-utils'
import { createMemoryHistory } from 'vue-router'
import { vi } from 'vitest'
import type { Component } from 'vue'
import { ErrorCode } from '@/api/errorCodes.gen'
import App from '@/App.vue'
import { makeRouter } from '@/router'
import { makeStore, storeKey, type AppStore } from '@/store'
import { fakeBackend, problem, type Answer, type Handler } from './backend'

export let store: AppStore
let mounted: VueWrapper | undefined

export function newStore(): void {
  store = makeStore()
}

export function unmount(): void {
  mounted?.unmount()
  mounted = undefined
}

export async function render(component: Component, { props = {}, at = '/' } = {}) {
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
export async function open(at: string) {
  const opened = await render(App, { at })
  return { ...opened, main: opened.wrapper.get('main') }
}

export function answerWith(table: Record<string, Answer | Handler>) {
  return fakeBackend({ 'GET /auth/me': problem(ErrorCode.UNAUTHORIZED), ...table })
}

/** The button with these words on it. */
export function button(within: Pick<VueWrapper, 'findAll'>, text: string) {
  const found = within.findAll('button').find((each) => each.text() === text)
  if (!found) throw new Error(`There is no button “${text}”.`)
  return found
}

/** Waits for what has to load first; a machine with much to do may take seconds for a page's chunk. */
export function eventually(check: () => void): Promise<void> {
  return vi.waitFor(check, { timeout: 15_000 })
}

/** Presses Enter, as Reka's menus want it in jsdom, which has no pointer. */
export function press(element: Element): void {
  element.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true }))
}
