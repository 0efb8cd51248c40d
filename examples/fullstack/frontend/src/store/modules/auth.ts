import * as api from '@/api/auth'
import { ErrorCode } from '@/api/errorCodes.gen'
import { APIError } from '@/api/errors'
import { signInWithPasskey, verifyCode } from '@/api/factors'
import type { Challenge, Credentials, Profile, SignIn, User } from '@/api/types'
import { defineModule } from '../typed'

interface AuthState {
  user: User | null
  /** Whether the API has been asked for the signed-in user. */
  restored: boolean
  /** The pending challenge, after a right password. */
  challenge: Challenge | null
}

export const auth = defineModule({
  state: (): AuthState => ({ user: null, restored: false, challenge: null }),

  getters: {
    isSignedIn: (state) => state.user !== null,
    isAdmin: (state) => state.user?.is_superuser ?? false,
    /** The name that others see: the pen name, or else the part of the address before the @. */
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
    /** Loads the signed-in user. Being signed out is a valid result; an unreachable server is an error. */
    async restore({ commit }) {
      try {
        commit('signedIn', await api.fetchMe())
      } catch (failure) {
        const error = APIError.from(failure)
        if (error.status !== 401 || error.is(ErrorCode.TOKEN_EXPIRED)) throw error
        commit('signedOut')
      }
    },
    /** Reloads the user, for example after a link in a mail was opened in another window. */
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
