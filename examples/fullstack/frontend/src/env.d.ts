/// <reference types="vite/client" />

interface ImportMetaEnv {
  /** The API's base URL; `/api` on this origin if unset. */
  readonly VITE_API_BASE_URL?: string
}

// Vuex 4.1.0 ships types, but its package.json doesn't export them.
declare module 'vuex' {
  export * from 'vuex/types/index.d.ts'
}
