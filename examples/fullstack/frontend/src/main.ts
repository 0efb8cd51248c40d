import { createApp } from 'vue'
import { onSignedOut } from './api/apiClient'
import App from './App.vue'
import { setLanguage } from './i18n'
import { makeRouter } from './router'
import { makeStore, storeKey } from './store'
import { allIsWell, watchChunks } from './utils/staleChunk'
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

watchChunks()
router.afterEach((_to, _from, failure) => failure ?? allIsWell())

// English is built in. Other languages are loaded before mounting, so that the page never switches language.
const { language } = store.state.ui
const spoken = language === 'en' ? undefined : setLanguage(language).catch(() => undefined)
const app = createApp(App).use(store, storeKey)
void Promise.resolve(spoken).then(() => app.use(router).mount('#app'))
