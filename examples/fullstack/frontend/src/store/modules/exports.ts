/** PDF exports: requested here, and followed with a stream until they are done. */
import { APIError } from '@/api/errors'
import * as api from '@/api/exports'
import type { Export } from '@/api/types'
import { defineModule } from '../typed'

interface ExportsState {
  items: Export[]
  status: 'idle' | 'loading' | 'ready' | 'failed'
  error: APIError | null
}

const PAUSE = 1_000 // Delay before reconnecting after a refusal.

/** Closes the open stream, if any. Not in the state, which holds only JSON. */
let stop: (() => void) | undefined

export const isActive = ({ state }: Export) => state === 'queued' || state === 'running'

export const exports = defineModule({
  state: (): ExportsState => ({ items: [], status: 'idle', error: null }),

  getters: {
    active: (state) => state.items.filter(isActive),
    latest: (state) => state.items[0] ?? null,
  },

  mutations: {
    started(state) {
      state.status = 'loading'
      state.error = null
    },
    loaded(state, items: Export[]) {
      state.items = items
      state.status = 'ready'
    },
    failed(state, error: APIError) {
      state.error = error
      state.status = 'failed'
    },
    changed(state, item: Export) {
      const known = state.items.some(({ id }) => id === item.id)
      state.items = known
        ? state.items.map((old) => (old.id === item.id ? item : old))
        : [item, ...state.items]
    },
    cleared(state) {
      Object.assign(state, { items: [], status: 'idle', error: null })
    },
  },

  actions: {
    async load({ commit, dispatch }) {
      commit('started')
      try {
        commit('loaded', await api.fetchExports())
        void dispatch('follow')
      } catch (failure) {
        commit('failed', APIError.from(failure))
      }
    },
    async start({ commit, dispatch }) {
      commit('changed', await api.startExport())
      void dispatch('follow')
    },
    async cancel({ commit }, id: string) {
      commit('changed', await api.cancelExport(id))
    },
    /** Follows exports in progress. If the stream is refused, a normal request refreshes the access token. */
    follow({ getters, commit, dispatch }) {
      if (stop || getters.active.length === 0) return
      stop = api.followExports({
        onData: (items) => {
          commit('loaded', items)
          if (!items.some(isActive)) void dispatch('unfollow')
        },
        onRefused: () => {
          void dispatch('unfollow')
          setTimeout(() => void dispatch('load'), PAUSE)
        },
      })
    },
    unfollow() {
      stop?.()
      stop = undefined
    },
  },
})
