/** Accounts: signing in and out, links in mails, and sessions. */
import { apiClient } from './apiClient'
import type { Challenge, Credentials, Profile, Session, SignIn, User } from './types'

/** The user, or a challenge if the account needs a second factor. */
export async function signIn(credentials: SignIn): Promise<User | Challenge> {
  return (await apiClient.post<User | Challenge>('/auth/signin', credentials)).data
}

export async function signUp(credentials: Credentials): Promise<User> {
  return (await apiClient.post<User>('/auth/signup', credentials)).data
}

export async function signOut(): Promise<void> {
  await apiClient.post('/auth/signout')
}

export async function changeMe(profile: Profile): Promise<User> {
  return (await apiClient.patch<User>('/auth/me', profile)).data
}

export async function deleteMe(): Promise<void> {
  await apiClient.delete('/auth/me')
}

/** The export of all account data, as a file. */
export async function fetchMyData(): Promise<Blob> {
  return (await apiClient.get<Blob>('/auth/me/export', { responseType: 'blob' })).data
}

export async function fetchMe(): Promise<User> {
  return (await apiClient.get<User>('/auth/me')).data
}

/** Re-authenticates, for requests that require a recent sign-in. */
export async function reauthenticate(password: string): Promise<void> {
  await apiClient.post('/auth/reauth', { password })
}

export async function forgetPassword(email: string): Promise<void> {
  await apiClient.post('/auth/password/forgot', { email })
}

export async function resetPassword(token: string, password: string): Promise<void> {
  await apiClient.post('/auth/password/reset', { token, new: password })
}

export async function changePassword(passwords: { current: string; new: string }): Promise<void> {
  await apiClient.post('/auth/password/change', passwords)
}

export async function verifyEmail(token: string): Promise<void> {
  await apiClient.post('/auth/email/verify', { token })
}

export async function resendVerification(): Promise<void> {
  await apiClient.post('/auth/email/verify/resend')
}

export async function changeEmail(email: string): Promise<void> {
  await apiClient.post('/auth/email/change', { email })
}

export async function confirmEmail(token: string): Promise<void> {
  await apiClient.post('/auth/email/change/confirm', { token })
}

export async function fetchSessions(signal?: AbortSignal): Promise<Session[]> {
  return (await apiClient.get<Session[]>('/auth/sessions', { signal })).data
}

export async function revokeSession(id: string): Promise<void> {
  await apiClient.delete(`/auth/sessions/${id}`)
}

export async function revokeOtherSessions(): Promise<void> {
  await apiClient.post('/auth/sessions/revoke-others')
}
