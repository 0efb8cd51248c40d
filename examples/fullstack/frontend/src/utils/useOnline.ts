import { readonly, ref } from 'vue'
import { useWindowEvent } from './useWindowEvent'

/** Whether the browser is online. */
export function useOnline() {
  const online = ref(navigator.onLine)
  useWindowEvent('online', () => (online.value = true))
  useWindowEvent('offline', () => (online.value = false))
  return readonly(online)
}
