import { apiClient } from './apiClient'
import type { Credentials, SignIn, User } from './types'

export async function signIn(credentials: SignIn): Promise<User> {
  return (await apiClient.post<User>('/auth/signin', credentials)).data
}

export async function signUp(credentials: Credentials): Promise<User> {
  return (await apiClient.post<User>('/auth/signup', credentials)).data
}

export async function signOut(): Promise<void> {
  await apiClient.post('/auth/signout')
}

export async function fetchMe(): Promise<User> {
  return (await apiClient.get<User>('/auth/me')).data
}
