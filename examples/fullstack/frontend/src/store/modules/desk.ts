/** The signed-in user's own posts, paged as in the URL, and their totals. */
import { APIError } from '@/api/errors'
import { fetchFigures, fetchMyPosts, type OwnPostsQuery } from '@/api/posts'
import type { Figures, NumberedPage, Post } from '@/api/types'
import { defineModule } from '../typed'

interface DeskState {
  items: Post[]
  total: number
  pages: number
  status: 'idle' | 'loading' | 'ready' | 'failed'
  error: APIError | null
  figures: Figures | null
}

const empty = (): DeskState => ({ items: [], total: 0, pages: 0, status: 'idle', error: null, figures: null })

let current: AbortController | undefined

export const desk = defineModule({
  state: empty,

  getters: {
    /** Whether there are no posts at all, rather than no matches. */
    isBlank: ({ figures }) => figures !== null && figures.drafts + figures.published === 0,
  },

  mutations: {
    started(state) {
      state.status = 'loading'
      state.error = null
    },
    loaded(state, { page, figures }: { page: NumberedPage<Post>; figures: Figures }) {
      Object.assign(state, { items: page.items, total: page.total ?? 0, pages: page.pages ?? 0, figures })
      state.status = 'ready'
    },
    failed(state, error: APIError) {
      state.error = error
      state.status = 'failed'
    },
    removed(state, id: string) {
      state.items = state.items.filter((post) => post.id !== id)
    },
    cleared(state) {
      Object.assign(state, empty())
    },
  },

  actions: {
    /** Loads the page in the URL. The old page stays until the response arrives, and a later request wins. */
    async load({ commit }, query: OwnPostsQuery) {
      current?.abort()
      const { signal } = (current = new AbortController())
      commit('started')
      try {
        const [page, figures] = await Promise.all([fetchMyPosts(query, signal), fetchFigures()])
        if (!signal.aborted) commit('loaded', { page, figures })
      } catch (failure) {
        if (!signal.aborted) commit('failed', APIError.from(failure))
      }
    },
  },
})
