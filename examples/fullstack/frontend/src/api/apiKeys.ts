/** API keys. */
import { apiClient } from './apiClient'
import type { ApiKey, CreatedApiKey } from './types'

export async function fetchApiKeys(signal?: AbortSignal): Promise<ApiKey[]> {
  return (await apiClient.get<ApiKey[]>('/auth/api-keys', { signal })).data
}

export async function createApiKey(key: { name: string; days: number | null }): Promise<CreatedApiKey> {
  return (await apiClient.post<CreatedApiKey>('/auth/api-keys', key)).data
}

export async function revokeApiKey(id: string): Promise<void> {
  await apiClient.delete(`/auth/api-keys/${id}`)
}
