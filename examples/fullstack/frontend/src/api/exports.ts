import { follow } from '@/utils/eventStream'
import { apiClient } from './apiClient'
import type { Export } from './types'

export async function fetchExports(): Promise<Export[]> {
  return (await apiClient.get<Export[]>('/exports')).data
}

export async function startExport(): Promise<Export> {
  return (await apiClient.post<Export>('/exports')).data
}

export async function cancelExport(id: string): Promise<Export> {
  return (await apiClient.post<Export>(`/exports/${id}/cancel`)).data
}

export async function fetchExportFile(id: string): Promise<Blob> {
  return (await apiClient.get<Blob>(`/exports/${id}/file`, { responseType: 'blob', timeout: 60_000 })).data
}

/** Calls back with all exports whenever one changes. Returns a function that stops it. */
export function followExports(handlers: {
  onData: (exports: Export[]) => void
  onRefused: () => void
}): () => void {
  return follow(`${apiClient.defaults.baseURL}/exports/events`, handlers)
}
