/** Two lists of posts that load page by page: what everyone reads, and what is mine. */
import { APIError } from '@/api/errors'
import { fetchMyPosts, fetchPosts, type PostPages } from '@/api/posts'
import type { Page, Post } from '@/api/types'
import { defineModule } from '../typed'

const FRESH_FOR = 30_000

interface PostsState {
  items: Post[]
  cursor: string | null
  /** `idle` before the first load, `more` while a further page is on its way. */
  status: 'idle' | 'loading' | 'more' | 'ready' | 'failed'
  error: APIError | null
  /** When the first page came, in milliseconds. */
  loadedAt: number
}

const empty = (): PostsState => ({ items: [], cursor: null, status: 'idle', error: null, loadedAt: 0 })

function definePosts(fetchPage: PostPages) {
  let current: AbortController | undefined

  return defineModule({
    state: empty,

    getters: {
      hasMore: (state) => state.cursor !== null,
      drafts: (state) => state.items.filter((post) => !post.published_at),
      published: (state) => state.items.filter((post) => post.published_at),
    },

    mutations: {
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
      saved(state, post: Post) {
        state.items = [post, ...state.items.filter(({ id }) => id !== post.id)]
      },
      removed(state, id: string) {
        state.items = state.items.filter((post) => post.id !== id)
      },
      cleared(state) {
        Object.assign(state, empty())
      },
    },

    actions: {
      /** Loads the list, unless it was loaded a moment ago: who comes back finds it as long as they left it. */
      async open({ state, dispatch }) {
        if (Date.now() - state.loadedAt > FRESH_FOR) await dispatch('load')
      },
      /** Loads the first page anew; what is shown stays until the answer is here. */
      async load({ commit }) {
        current?.abort()
        const { signal } = (current = new AbortController())
        commit('started', 'loading')
        try {
          commit('loaded', { page: await fetchPage(null, signal), append: false })
        } catch (failure) {
          const error = APIError.from(failure)
          if (error.kind !== 'cancelled') commit('failed', error)
        }
      },
      /** Does again what failed. */
      async retry({ state, dispatch }) {
        await dispatch(state.cursor ? 'loadMore' : 'load')
      },
      async loadMore({ state, commit }) {
        if (state.status === 'more' || state.status === 'loading' || !state.cursor) return
        current = new AbortController()
        commit('started', 'more')
        try {
          commit('loaded', { page: await fetchPage(state.cursor, current.signal), append: true })
        } catch (failure) {
          const error = APIError.from(failure)
          if (error.kind !== 'cancelled') commit('failed', error)
        }
      },
    },
  })
}

export const feed = definePosts(fetchPosts)
export const desk = definePosts(fetchMyPosts)
