import { APIError } from '@/api/errors'
import { preferredLanguage, setLanguage, type Language } from '@/i18n'
import { recall, remember } from '@/utils/storage'
import { defineModule } from '../typed'

export type Theme = 'light' | 'dark' | 'system'

export interface Toast {
  id: number
  tone: 'good' | 'bad'
  text: string
}

interface UiState {
  theme: Theme
  language: Language
  toasts: Toast[]
}

const THEME = 'pilcrow.theme' // public/theme.js reads it before the first paint.
const LANGUAGE = 'pilcrow.language'
const TOAST_TIME = 6_000

let lastToast = 0

export const ui = defineModule({
  state: (): UiState => ({
    theme: storedTheme(),
    language: preferredLanguage(recall(LANGUAGE), navigator.languages),
    toasts: [],
  }),

  getters: {},

  mutations: {
    theme(state, theme: Theme) {
      state.theme = theme
    },
    language(state, language: Language) {
      state.language = language
    },
    toastAdded(state, toast: Toast) {
      state.toasts = [...state.toasts, toast]
    },
    toastRemoved(state, id: number) {
      state.toasts = state.toasts.filter((toast) => toast.id !== id)
    },
  },

  actions: {
    setTheme({ commit }, theme: Theme) {
      commit('theme', theme)
      if (theme === 'system') delete document.documentElement.dataset.theme
      else document.documentElement.dataset.theme = theme
      remember(THEME, theme)
    },
    async setLanguage({ commit }, language: Language) {
      await setLanguage(language)
      commit('language', language)
      remember(LANGUAGE, language)
    },
    toast({ commit }, { text, tone = 'good' }: { text: string; tone?: Toast['tone'] }) {
      const id = ++lastToast
      commit('toastAdded', { id, tone, text })
      setTimeout(() => commit('toastRemoved', id), TOAST_TIME)
    },
    /** Shows an error that has no better place on the page. */
    complain({ dispatch }, failure: unknown) {
      return dispatch('toast', { text: APIError.from(failure).message, tone: 'bad' })
    },
  },
})

function storedTheme(): Theme {
  const theme = recall(THEME)
  return theme === 'light' || theme === 'dark' ? theme : 'system'
}
