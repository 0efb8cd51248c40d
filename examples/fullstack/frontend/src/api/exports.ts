import { apiClient } from './apiClient'
import type { Export } from './types'

export async function fetchExports(): Promise<Export[]> {
  return (await apiClient.get<Export[]>('/exports')).data
}

export async function fetchExport(id: string): Promise<Export> {
  return (await apiClient.get<Export>(`/exports/${id}`)).data
}

export async function startExport(): Promise<Export> {
  return (await apiClient.post<Export>('/exports')).data
}

export async function fetchExportFile(id: string): Promise<Blob> {
  return (await apiClient.get<Blob>(`/exports/${id}/file`, { responseType: 'blob', timeout: 60_000 })).data
}
