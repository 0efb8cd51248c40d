import { computed } from 'vue'
import { useRoute, useRouter } from 'vue-router'

/**
 * The state of a list, kept in the page's URL, so that links and the Back button restore it.
 *
 * Default values are left out. Any change except of the page returns to the first page.
 */
export function useListQuery<Query extends Record<string, string>>(defaults: Query) {
  const route = useRoute()
  const router = useRouter()

  const query = computed(() => {
    const names = Object.keys(defaults)
    return Object.fromEntries(
      names.map((name) => [name, first(route.query[name]) ?? defaults[name]]),
    ) as Query
  })
  const page = computed(() => Math.max(1, Math.trunc(Number(first(route.query.page))) || 1))

  function change(changes: Partial<Query> & { page?: number }, { replace = false } = {}): Promise<unknown> {
    const { page: wanted = 1, ...rest } = changes
    const next = { ...query.value, ...rest, page: String(wanted) }
    const usual = { ...defaults, page: '1' } as Record<string, string>
    const kept = Object.entries(next).filter(([name, value]) => value !== usual[name])
    const to = { query: Object.fromEntries(kept), hash: route.hash }
    return replace ? router.replace(to) : router.push(to)
  }

  return { query, page, change }
}

function first(value: unknown): string | null {
  return typeof value === 'string' ? value : null
}
