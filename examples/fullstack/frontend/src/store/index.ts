import { inject, type InjectionKey } from 'vue'
import { createStore, type Store } from 'vuex'
import { article } from './modules/article'
import { auth } from './modules/auth'
import { desk } from './modules/desk'
import { exports } from './modules/exports'
import { feed } from './modules/feed'
import { ui } from './modules/ui'
import { asVuex, type StateOf, type TypedStore } from './typed'

const modules = { article, auth, desk, exports, feed, ui }

export type RootState = StateOf<typeof modules>
export type AppStore = TypedStore<typeof modules>

export const storeKey: InjectionKey<AppStore> = Symbol('store')

export function makeStore(): AppStore {
  const store: Store<RootState> = createStore({ modules: asVuex(modules), strict: import.meta.env.DEV })
  const typed = store as unknown as AppStore
  // On sign-out, all state of the user is reset.
  store.watch(
    (state) => state.auth.user?.id,
    () => {
      void typed.dispatch('exports/unfollow')
      typed.commit('desk/cleared')
      typed.commit('exports/cleared')
    },
    { flush: 'sync' },
  )
  return typed
}

/** The store, with every getter, mutation and action typed. */
export function useStore(): AppStore {
  const store = inject(storeKey)
  if (!store)
    throw new Error('useStore() needs an app that provides the store: app.provide(storeKey, makeStore()).')
  return store
}
