/// <reference types="vite/client" />

interface ImportMetaEnv {
  /** Where the API lives; `/api` on this origin when unset. */
  readonly VITE_API_BASE_URL?: string
}

// Vuex 4.1.0 ships types, but its package.json `exports` doesn't say where.
declare module 'vuex' {
  export * from 'vuex/types/index.d.ts'
}
