/**
 * After a deploy, an open page may request chunks that no longer exist. The page is then reloaded, once.
 *
 * Not while offline, because a reload would lose the current page.
 */
const TRIED = 'pilcrow.reloaded'

let isStale = false

export function watchChunks(): void {
  window.addEventListener('vite:preloadError', () => (isStale = true))
}

/** Whether the failure was a missing chunk, and the page is reloading. */
export function openAnew(path: string, go: (path: string) => void = (to) => location.assign(to)): boolean {
  if (!isStale || !navigator.onLine || sessionStorage.getItem(TRIED)) return false
  sessionStorage.setItem(TRIED, path)
  go(path)
  return true
}

/** Resets the check after a page has opened. */
export function allIsWell(): void {
  isStale = false
  sessionStorage.removeItem(TRIED)
}
