import { apiClient } from './apiClient'
import type { Comment, Page, Post, PostDraft } from './types'

export type PostPages = (cursor: string | null, signal?: AbortSignal) => Promise<Page<Post>>

/** Published posts, newest first. */
export const fetchPosts: PostPages = (cursor, signal) => fetchPage('/posts', 10, cursor, signal)

/** The signed-in person's own posts, drafts too. */
export const fetchMyPosts: PostPages = (cursor, signal) => fetchPage('/posts/mine', 20, cursor, signal)

async function fetchPage(url: string, size: number, cursor: string | null, signal?: AbortSignal) {
  const params = cursor ? { cursor, size } : { size }
  return (await apiClient.get<Page<Post>>(url, { params, signal })).data
}

export async function fetchPost(id: string, signal?: AbortSignal): Promise<Post> {
  return (await apiClient.get<Post>(`/posts/${encodeURIComponent(id)}`, { signal })).data
}

export async function createPost(draft: PostDraft): Promise<Post> {
  return (await apiClient.post<Post>('/posts', draft)).data
}

export async function updatePost(id: string, draft: PostDraft): Promise<Post> {
  return (await apiClient.patch<Post>(`/posts/${id}`, draft)).data
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
