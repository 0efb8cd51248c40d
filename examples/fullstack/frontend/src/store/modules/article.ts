/** The current post and its comments. */
import { APIError } from '@/api/errors'
import * as api from '@/api/posts'
import type { Comment, Page, Post } from '@/api/types'
import { defineModule } from '../typed'

interface ArticleState {
  post: Post | null
  comments: Comment[]
  cursor: string | null
  error: APIError | null
}

let current: AbortController | undefined

export const article = defineModule({
  state: (): ArticleState => ({ post: null, comments: [], cursor: null, error: null }),

  getters: {
    hasMoreComments: (state) => state.cursor !== null,
  },

  mutations: {
    opened(state, post: Post | null) {
      Object.assign(state, { post, comments: [], cursor: null, error: null })
    },
    failed(state, error: APIError) {
      state.error = error
    },
    changed(state, post: Post) {
      state.post = post
    },
    commentsLoaded(state, { items, next_cursor }: Page<Comment>) {
      const known = new Set(state.comments.map(({ id }) => id))
      state.comments = [...state.comments, ...items.filter(({ id }) => !known.has(id))]
      state.cursor = next_cursor ?? null
    },
    commented(state, comment: Comment) {
      state.comments = [...state.comments, comment]
      if (state.post) state.post = { ...state.post, comment_count: state.post.comment_count + 1 }
    },
  },

  actions: {
    async open({ commit }, id: string) {
      current?.abort()
      const { signal } = (current = new AbortController())
      commit('opened', null)
      try {
        const [post, comments] = await Promise.all([api.fetchPost(id, signal), api.fetchComments(id)])
        if (signal.aborted) return
        commit('opened', post)
        commit('commentsLoaded', comments)
      } catch (failure) {
        if (!signal.aborted) commit('failed', APIError.from(failure))
      }
    },
    async moreComments({ state, commit }) {
      if (state.post && state.cursor)
        commit('commentsLoaded', await api.fetchComments(state.post.id, state.cursor))
    },
    async comment({ state, commit }, content: string) {
      if (state.post) commit('commented', await api.createComment(state.post.id, content))
    },
  },
})
