import type { NavigationGuardReturn, RouteLocationNormalized } from 'vue-router'
import type { AppStore } from '@/store'

/** Creates the guard that admits a user, or returns the page to go to instead. */
export function makeGuard(store: AppStore) {
  let restoring: Promise<void> | undefined

  // Requested once, even if several pages are opened meanwhile; requested again if it failed.
  function restore(): Promise<void> {
    restoring ??= store.dispatch('auth/restore').finally(() => (restoring = undefined))
    return restoring
  }

  return async (to: RouteLocationNormalized): Promise<NavigationGuardReturn> => {
    const restored = store.state.auth.restored ? undefined : restore()
    const { requiresAuth, requiresGuest, requiresAdmin } = to.meta
    if (!requiresAuth && !requiresGuest && !requiresAdmin) {
      restored?.catch(() => undefined) // This page is public and doesn't wait.
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

/** The page to continue with, if it is one of this site; never another site's. */
export function safeNext(next: unknown, fallback = '/desk'): string {
  // The URL parser strips tabs and line breaks, so that "/\t/evil.example" would leave the site.
  return typeof next === 'string' && /^\/(?![/\\])[^\p{Cc}\\]*$/u.test(next) ? next : fallback
}
