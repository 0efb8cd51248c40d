/** What the API sends and takes. */

export interface User {
  id: string
  email: string
  is_superuser: boolean
  email_verified: boolean
  created_at: string
}

export interface Credentials {
  email: string
  password: string
}

export interface SignIn extends Credentials {
  /** Keep the session when the browser closes. */
  remember: boolean
}

export interface Author {
  id: string
  name: string
}

export interface PostDraft {
  title: string
  subtitle: string | null
  content: string
}

export interface Post extends PostDraft {
  id: string
  author: Author
  published_at: string | null
  created_at: string
  updated_at: string
  comment_count: number
}

export interface Comment {
  id: string
  content: string
  author: Author
  created_at: string
}

export interface Export {
  id: string
  state: 'queued' | 'running' | 'done' | 'failed'
  progress: number
  step: string
  created_at: string
  expires_at: string | null
  size: number | null
}

export interface Page<Item> {
  items: Item[]
  next_cursor: string | null
}
