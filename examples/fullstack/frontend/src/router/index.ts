import { createRouter, createWebHistory, type Router, type RouterHistory } from 'vue-router'
import { t } from '@/i18n'
import type { AppStore } from '@/store'
import { makeGuard } from './guards'
import { routes } from './routes'

export function makeRouter(store: AppStore, history: RouterHistory = createWebHistory()): Router {
  const router = createRouter({
    history,
    routes,
    scrollBehavior: (to, from, saved) => saved ?? (to.path === from.path ? false : { top: 0 }),
  })
  router.beforeEach(makeGuard(store))
  router.afterEach((to) => setTitle(t(to.meta.title)))
  return router
}

/** Sets the document's title; a page whose title comes from the API calls this again. */
export function setTitle(title: string): void {
  document.title = `${title} · Pilcrow`
}
