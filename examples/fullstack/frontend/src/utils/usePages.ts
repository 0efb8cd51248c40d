import { computed, onScopeDispose, ref, shallowRef } from 'vue'
import { APIError } from '@/api/errors'
import type { Page } from '@/api/types'

/** A list that loads one page at a time, for the admin pages. */
export function usePages<Item extends { id: string | number }>(
  read: (cursor: string | null, signal: AbortSignal) => Promise<Page<Item>>,
) {
  const items = shallowRef<Item[]>()
  const cursor = ref<string | null>(null)
  const error = shallowRef<APIError | null>(null)
  const busy = ref(false)
  let current: AbortController | undefined

  async function ask(from: string | null): Promise<void> {
    current?.abort()
    const { signal } = (current = new AbortController())
    busy.value = true
    error.value = null
    try {
      const page = await read(from, signal)
      if (signal.aborted) return
      items.value = from ? [...(items.value ?? []), ...page.items] : page.items
      cursor.value = page.next_cursor ?? null
    } catch (failure) {
      if (!signal.aborted) error.value = APIError.from(failure)
    } finally {
      if (!signal.aborted) busy.value = false
    }
  }

  /** Replaces a changed item. */
  function replace(item: Item): void {
    items.value = items.value?.map((old) => (old.id === item.id ? item : old))
  }

  onScopeDispose(() => current?.abort())
  return {
    ...{ items, error, busy, replace },
    hasMore: computed(() => cursor.value !== null),
    load: () => ask(null),
    more: () => ask(cursor.value),
  }
}
