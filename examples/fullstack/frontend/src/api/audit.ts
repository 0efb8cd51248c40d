/** The audit trail, for superusers. */
import { apiClient } from './apiClient'
import type { AuditEntry, Page } from './types'

export async function fetchAuditEntries(
  filters: { kind?: string; subject?: string; since?: string },
  cursor: string | null,
  signal?: AbortSignal,
): Promise<Page<AuditEntry>> {
  const params = { ...filters, cursor: cursor ?? undefined, size: 30 }
  return (await apiClient.get<Page<AuditEntry>>('/audit', { params, signal })).data
}
