/**
 * After a deploy, an open page asks for chunks that are gone. The answer is to open the wanted page anew, once.
 *
 * Not while there is no network: that would take away what is there.
 */
const TRIED = 'pilcrow.reloaded'

let isStale = false

export function watchChunks(): void {
  window.addEventListener('vite:preloadError', () => (isStale = true))
}

/** Whether the failure was a chunk that is gone, and the page is on its way again. */
export function openAnew(path: string, go: (path: string) => void = (to) => location.assign(to)): boolean {
  if (!isStale || !navigator.onLine || sessionStorage.getItem(TRIED)) return false
  sessionStorage.setItem(TRIED, path)
  go(path)
  return true
}

/** A page has opened, so the next failure is a new one. */
export function allIsWell(): void {
  isStale = false
  sessionStorage.removeItem(TRIED)
}
