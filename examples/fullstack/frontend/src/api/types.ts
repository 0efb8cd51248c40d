/** Short names for the API's types; `schema.gen.ts` is generated from the backend. */
import type { components } from './schema.gen'

type Schemas = components['schemas']

export type User = Schemas['MeSchema']
export type Profile = Schemas['ProfileSchema']
export type Credentials = Schemas['SignupSchema']
export type SignIn = Schemas['SigninSchema']
export type Session = Schemas['SessionSchema']
export type Challenge = Schemas['ChallengeSchema']
export type FactorStatus = Schemas['StatusSchema']
export type TotpSetup = Schemas['SetupSchema']
export type ApiKey = Schemas['ApiKeySchema']
export type CreatedApiKey = Schemas['CreatedApiKeySchema']
export type AuditEntry = Schemas['AuditEntrySchema']
export type Passkey = Schemas['PasskeySchema']
export type Task = Schemas['TaskSchema']
export type TaskStats = Schemas['TaskStatsSchema']
export type Account = Schemas['UserAdminSchema']
export type Post = Schemas['PostSchema']
export type PostDraft = Schemas['PostCreate']
export type PostChanges = PostDraft & { version: number }
export type Figures = Schemas['FiguresSchema']
export type Comment = Schemas['CommentSchema']
export type Export = Schemas['ExportSchema']
export type Problem = Schemas['ProblemDetails']

/** A page of a list; `next_cursor` requests the next one. */
export interface Page<Item> {
  items: Item[]
  next_cursor?: string | null
}

/** A page of a list with a total, so that any page can be requested. */
export interface NumberedPage<Item> {
  items: Item[]
  page: number
  size: number
  total: number | null
  pages: number | null
}
