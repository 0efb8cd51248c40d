/** PDFs of one's own work, made in the background: started here, and watched until they are done. */
import { APIError } from '@/api/errors'
import * as api from '@/api/exports'
import type { Export } from '@/api/types'
import { defineModule } from '../typed'

const POLL_EVERY = 500

interface ExportsState {
  items: Export[]
  status: 'idle' | 'loading' | 'ready' | 'failed'
  error: APIError | null
  /** The ids that are being polled. */
  watched: string[]
}

export const isActive = ({ state }: Export) => state === 'queued' || state === 'running'

export const exports = defineModule({
  state: (): ExportsState => ({ items: [], status: 'idle', error: null, watched: [] }),

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
    watched(state, id: string) {
      state.watched = [...state.watched, id]
    },
    unwatched(state, id: string) {
      state.watched = state.watched.filter((other) => other !== id)
    },
    cleared(state) {
      Object.assign(state, { items: [], status: 'idle', error: null, watched: [] })
    },
  },

  actions: {
    async load({ commit, dispatch }) {
      commit('started')
      try {
        const items = await api.fetchExports()
        commit('loaded', items)
        for (const { id } of items.filter(isActive)) void dispatch('watch', id)
      } catch (failure) {
        commit('failed', APIError.from(failure))
      }
    },
    async start({ commit, dispatch }) {
      const item = await api.startExport()
      commit('changed', item)
      void dispatch('watch', item.id)
    },
    /** Asks for the progress every half second, until the export ends or nobody watches any more. */
    async watch({ state, commit }, id: string) {
      if (state.watched.includes(id)) return
      commit('watched', id)
      while (state.watched.includes(id)) {
        await new Promise((resolve) => setTimeout(resolve, POLL_EVERY))
        if (!state.watched.includes(id)) return
        try {
          const item = await api.fetchExport(id)
          commit('changed', item)
          if (!isActive(item)) commit('unwatched', id)
        } catch (failure) {
          // A hiccup is worth another try; an answer that says no is not.
          if (APIError.from(failure).kind === 'problem') commit('unwatched', id)
        }
      }
    },
  },
})
