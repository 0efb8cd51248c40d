import { onScopeDispose } from 'vue'

/** Listens on the window for as long as the component lives. */
export function useWindowEvent<Name extends keyof WindowEventMap>(
  name: Name,
  listener: (event: WindowEventMap[Name]) => unknown,
): void {
  window.addEventListener(name, listener)
  onScopeDispose(() => window.removeEventListener(name, listener))
}
