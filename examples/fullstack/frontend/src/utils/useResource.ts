import { onScopeDispose, ref, shallowRef } from 'vue'
import { APIError } from '@/api/errors'

/**
 * Data that a page loads: the data, the error, and a function to reload.
 *
 * Old data stays during a reload, and a response that arrives after a newer request is ignored.
 */
export function useResource<T>(read: (signal: AbortSignal) => Promise<T>) {
  const data = shallowRef<T>()
  const error = shallowRef<APIError | null>(null)
  const busy = ref(false)
  let current: AbortController | undefined

  async function load(): Promise<void> {
    current?.abort()
    const { signal } = (current = new AbortController())
    busy.value = true
    error.value = null
    try {
      const answer = await read(signal)
      if (!signal.aborted) data.value = answer
    } catch (failure) {
      if (!signal.aborted) error.value = APIError.from(failure)
    } finally {
      if (!signal.aborted) busy.value = false
    }
  }

  onScopeDispose(() => current?.abort())
  return { data, error, busy, load }
}
