import { apiClient } from './apiClient'
import type { Comment, Figures, NumberedPage, Page, Post, PostChanges, PostDraft } from './types'

/** Filters of one's own posts. */
export interface OwnPostsQuery {
  q?: string
  published?: boolean
  sort?: string
  page?: number
  size?: number
}

/** Published posts, newest first. */
export async function fetchPosts(
  q: string,
  cursor: string | null,
  signal?: AbortSignal,
): Promise<Page<Post>> {
  const params = { size: 10, cursor: cursor ?? undefined, q: q || undefined }
  return (await apiClient.get<Page<Post>>('/posts', { params, signal })).data
}

/** The signed-in user's own posts, drafts included. */
export async function fetchMyPosts(params: OwnPostsQuery, signal?: AbortSignal): Promise<NumberedPage<Post>> {
  return (await apiClient.get<NumberedPage<Post>>('/posts/mine', { params, signal })).data
}

export async function fetchFigures(): Promise<Figures> {
  return (await apiClient.get<Figures>('/posts/mine/figures')).data
}

export async function fetchPost(id: string, signal?: AbortSignal): Promise<Post> {
  return (await apiClient.get<Post>(`/posts/${encodeURIComponent(id)}`, { signal })).data
}

export async function createPost(draft: PostDraft): Promise<Post> {
  return (await apiClient.post<Post>('/posts', draft)).data
}

export async function updatePost(id: string, changes: PostChanges): Promise<Post> {
  return (await apiClient.patch<Post>(`/posts/${id}`, changes)).data
}

export async function deletePost(id: string): Promise<void> {
  await apiClient.delete(`/posts/${id}`)
}

export async function publishPost(id: string): Promise<Post> {
  return (await apiClient.post<Post>(`/posts/${id}/publish`)).data
}

export async function fetchComments(postId: string, cursor: string | null = null): Promise<Page<Comment>> {
  const params = cursor ? { cursor } : {}
  return (await apiClient.get<Page<Comment>>(`/posts/${encodeURIComponent(postId)}/comments`, { params }))
    .data
}

export async function createComment(postId: string, content: string): Promise<Comment> {
  return (await apiClient.post<Comment>(`/posts/${postId}/comments`, { content })).data
}
