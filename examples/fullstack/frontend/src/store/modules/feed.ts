/** The published posts, page by page, optionally searched. */
import { APIError } from '@/api/errors'
import { fetchPosts } from '@/api/posts'
import type { Page, Post } from '@/api/types'
import { defineModule } from '../typed'

const FRESH_FOR = 30_000

interface FeedState {
  /** The search; empty for all posts. */
  q: string
  items: Post[]
  cursor: string | null
  /** `idle` before the first load, `more` while another page loads. */
  status: 'idle' | 'loading' | 'more' | 'ready' | 'failed'
  error: APIError | null
  /** When the first page was loaded, in milliseconds. */
  loadedAt: number
}

const empty = (): FeedState => ({ q: '', items: [], cursor: null, status: 'idle', error: null, loadedAt: 0 })

let current: AbortController | undefined

export const feed = defineModule({
  state: empty,

  getters: {
    hasMore: (state) => state.cursor !== null,
  },

  mutations: {
    asked(state, q: string) {
      Object.assign(state, empty(), { q })
    },
    started(state, status: 'loading' | 'more') {
      state.status = status
      state.error = null
    },
    loaded(state, { page, append }: { page: Page<Post>; append: boolean }) {
      const known = new Set(append ? state.items.map((post) => post.id) : [])
      const items = page.items.filter((post) => !known.has(post.id))
      state.items = append ? [...state.items, ...items] : items
      state.cursor = page.next_cursor ?? null
      state.status = 'ready'
      if (!append) state.loadedAt = Date.now()
    },
    failed(state, error: APIError) {
      state.error = error
      state.status = 'failed'
    },
    cleared(state) {
      Object.assign(state, empty())
    },
  },

  actions: {
    /** Loads the list, unless it was loaded recently, so that going back keeps its length. */
    async open({ state, commit, dispatch }, q: string) {
      if (q !== state.q) commit('asked', q)
      if (Date.now() - state.loadedAt > FRESH_FOR) await dispatch('load')
    },
    /** Reloads the first page. The old one stays until the response arrives. */
    async load({ state, commit }) {
      current?.abort()
      const { signal } = (current = new AbortController())
      commit('started', 'loading')
      try {
        commit('loaded', { page: await fetchPosts(state.q, null, signal), append: false })
      } catch (failure) {
        const error = APIError.from(failure)
        if (error.kind !== 'cancelled') commit('failed', error)
      }
    },
    /** Retries the failed request. */
    async retry({ state, dispatch }) {
      await dispatch(state.cursor ? 'loadMore' : 'load')
    },
    async loadMore({ state, commit }) {
      if (state.status === 'more' || state.status === 'loading' || !state.cursor) return
      current = new AbortController()
      commit('started', 'more')
      try {
        commit('loaded', { page: await fetchPosts(state.q, state.cursor, current.signal), append: true })
      } catch (failure) {
        const error = APIError.from(failure)
        if (error.kind !== 'cancelled') commit('failed', error)
      }
    },
  },
})
