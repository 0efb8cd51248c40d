import { createApp } from 'vue'
import { onSignedOut } from './api/apiClient'
import App from './App.vue'
import { makeRouter } from './router'
import { makeStore, storeKey } from './store'
import './styles/fonts.css'
import './styles/tokens.css'
import './styles/base.css'

const store = makeStore()
const router = makeRouter(store)

onSignedOut(() => {
  const wasSignedIn = store.getters['auth/isSignedIn']
  store.commit('auth/signedOut')
  const { meta, fullPath } = router.currentRoute.value
  if (wasSignedIn && meta.requiresAuth) void router.replace({ name: 'signIn', query: { next: fullPath } })
})

// After a deploy an open page asks for chunks that are gone: load the new index, once.
window.addEventListener('vite:preloadError', (event) => {
  if (sessionStorage.getItem('pilcrow.reloaded')) return
  sessionStorage.setItem('pilcrow.reloaded', '1')
  event.preventDefault()
  location.reload()
})

void router.isReady().then(() => sessionStorage.removeItem('pilcrow.reloaded'))

createApp(App).use(store, storeKey).use(router).mount('#app')
