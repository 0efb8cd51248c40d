import { computed } from 'vue'
import { useRoute, useRouter } from 'vue-router'

/**
 * What a list shows, kept in the page's address: a link leads to the same list, and Back to the one before.
 *
 * Values that are as they would be anyway are left out. Any change but that of the page goes back to the first page.
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
