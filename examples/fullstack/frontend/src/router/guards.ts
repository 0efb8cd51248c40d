import type { NavigationGuardReturn, RouteLocationNormalized } from 'vue-router'
import type { AppStore } from '@/store'

/** Makes the guard that lets a person through, or says where to go instead. */
export function makeGuard(store: AppStore) {
  let restoring: Promise<void> | undefined

  // Asked once, however many pages are opened meanwhile; asked again when there was no answer.
  function restore(): Promise<void> {
    restoring ??= store.dispatch('auth/restore').finally(() => (restoring = undefined))
    return restoring
  }

  return async (to: RouteLocationNormalized): Promise<NavigationGuardReturn> => {
    const restored = store.state.auth.restored ? undefined : restore()
    const { requiresAuth, requiresGuest, requiresAdmin } = to.meta
    if (!requiresAuth && !requiresGuest && !requiresAdmin) {
      restored?.catch(() => undefined) // Anyone may read this page: it doesn't wait.
      return true
    }
    await restored

    const signedIn = store.getters['auth/isSignedIn']
    if ((requiresAuth || requiresAdmin) && !signedIn) return { name: 'signIn', query: { next: to.fullPath } }
    if (requiresAdmin && !store.getters['auth/isAdmin']) return { name: 'forbidden', replace: true }
    if (requiresGuest && signedIn) return safeNext(to.query.next)
    return true
  }
}

/** The page to go on with, when it is one of ours: never another site's, whatever the link said. */
export function safeNext(next: unknown, fallback = '/desk'): string {
  // The URL parser strips tabs and line breaks, so that "/\t/evil.example" would leave the site.
  return typeof next === 'string' && /^\/(?![/\\])[^\p{Cc}\\]*$/u.test(next) ? next : fallback
}
