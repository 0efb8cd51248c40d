import { onScopeDispose } from 'vue'

/** Adds a window listener for the lifetime of the component. */
export function useWindowEvent<Name extends keyof WindowEventMap>(
  name: Name,
  listener: (event: WindowEventMap[Name]) => unknown,
): void {
  window.addEventListener(name, listener)
  onScopeDispose(() => window.removeEventListener(name, listener))
}
