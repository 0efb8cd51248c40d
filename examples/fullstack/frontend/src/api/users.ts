/** The administration of users, for superusers. */
import { apiClient } from './apiClient'
import type { Account, Page } from './types'

export async function fetchUsers(cursor: string | null, signal?: AbortSignal): Promise<Page<Account>> {
  const params = { cursor: cursor ?? undefined, size: 20 }
  return (await apiClient.get<Page<Account>>('/users', { params, signal })).data
}

export async function disableUser(id: string): Promise<Account> {
  return (await apiClient.post<Account>(`/users/${id}/disable`)).data
}

export async function enableUser(id: string): Promise<Account> {
  return (await apiClient.post<Account>(`/users/${id}/enable`)).data
}
