/** The administration of background tasks, for superusers. */
import { apiClient } from './apiClient'
import type { Page, Task, TaskStats } from './types'

export async function fetchTasks(
  state: Task['state'] | undefined,
  cursor: string | null,
  signal?: AbortSignal,
): Promise<Page<Task>> {
  const params = { state, cursor: cursor ?? undefined, size: 20 }
  return (await apiClient.get<Page<Task>>('/tasks', { params, signal })).data
}

export async function fetchTaskStats(signal?: AbortSignal): Promise<TaskStats> {
  return (await apiClient.get<TaskStats>('/tasks/stats', { signal })).data
}

export async function retryTask(id: string): Promise<Task> {
  return (await apiClient.post<Task>(`/tasks/${id}/retry`)).data
}

export async function cancelTask(id: string): Promise<Task> {
  return (await apiClient.post<Task>(`/tasks/${id}/cancel`)).data
}
