/** The administration of users, for superusers. */
import { apiClient } from './apiClient'
import type { Account, Page } from './types'

export async function fetchUsers(
  q: string,
  cursor: string | null,
  signal?: AbortSignal,
): Promise<Page<Account>> {
  const params = { q: q || undefined, cursor: cursor ?? undefined, size: 20 }
  return (await apiClient.get<Page<Account>>('/users', { params, signal })).data
}

export async function fetchUser(id: string): Promise<Account> {
  return (await apiClient.get<Account>(`/users/${id}`)).data
}

export async function disableUser(id: string): Promise<Account> {
  return (await apiClient.post<Account>(`/users/${id}/disable`)).data
}

export async function enableUser(id: string): Promise<Account> {
  return (await apiClient.post<Account>(`/users/${id}/enable`)).data
}

/** Removes a user's password, and mails them a link to set a new one. */
export async function resetUserPassword(id: string): Promise<void> {
  await apiClient.post(`/users/${id}/reset-password`)
}

export async function revokeUserSessions(id: string): Promise<void> {
  await apiClient.post(`/users/${id}/sessions/revoke`)
}
