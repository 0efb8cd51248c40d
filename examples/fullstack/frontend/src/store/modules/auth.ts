import * as api from '@/api/auth'
import { ErrorCode } from '@/api/errorCodes.gen'
import { APIError } from '@/api/errors'
import { signInWithPasskey, verifyCode } from '@/api/factors'
import type { Challenge, Credentials, Profile, SignIn, User } from '@/api/types'
import { defineModule } from '../typed'

interface AuthState {
  user: User | null
  /** Whether the API has been asked who we are. */
  restored: boolean
  /** What is still to be done, by somebody whose password was right. */
  challenge: Challenge | null
}

export const auth = defineModule({
  state: (): AuthState => ({ user: null, restored: false, challenge: null }),

  getters: {
    isSignedIn: (state) => state.user !== null,
    isAdmin: (state) => state.user?.is_superuser ?? false,
    /** What others see: the pen name, else the part of the address before the @. */
    name: ({ user }) => user?.pen_name || (user?.email.split('@')[0] ?? ''),
  },

  mutations: {
    signedIn(state, user: User) {
      Object.assign(state, { user, restored: true, challenge: null })
    },
    challenged(state, challenge: Challenge | null) {
      state.challenge = challenge
    },
    signedOut(state) {
      state.user = null
      state.restored = true
    },
  },

  actions: {
    /** Finds out whose cookies these are. Nobody's is an answer; a server that can't be reached is not. */
    async restore({ commit }) {
      try {
        commit('signedIn', await api.fetchMe())
      } catch (failure) {
        const error = APIError.from(failure)
        if (error.status !== 401 || error.is(ErrorCode.TOKEN_EXPIRED)) throw error
        commit('signedOut')
      }
    },
    /** Reads anew what may have changed about us, as after a mail's link was followed in another window. */
    async reload({ commit }) {
      commit('signedIn', await api.fetchMe())
    },
    async signIn({ commit }, credentials: SignIn) {
      const answer = await api.signIn(credentials)
      if ('mfa_required' in answer) commit('challenged', answer)
      else commit('signedIn', answer)
    },
    async proveFactor({ state, commit }, code: string) {
      if (state.challenge) commit('signedIn', await verifyCode(state.challenge, code))
    },
    async signInWithPasskey({ commit }) {
      commit('signedIn', await signInWithPasskey())
    },
    async signUp({ commit }, credentials: Credentials) {
      commit('signedIn', await api.signUp(credentials))
    },
    async change({ commit }, profile: Profile) {
      commit('signedIn', await api.changeMe(profile))
    },
    async leave({ commit }) {
      await api.deleteMe()
      commit('signedOut')
    },
    async signOut({ commit }) {
      await api.signOut()
      commit('signedOut')
    },
  },
})
