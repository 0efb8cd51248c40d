/** Readable texts for entries of the audit trail. */
import type { AuditEntry } from '@/api/types'
import { t, type MessageKey } from '@/i18n'

/** The kinds to filter by. */
export const KINDS = [
  'UserSignedIn',
  'SigninFailed',
  'UserSignedOut',
  'SessionRevoked',
  'UserSignedUp',
  'PasswordChanged',
  'PasswordReset',
  'EmailChanged',
  'TotpEnabled',
  'TotpDisabled',
  'PasskeyAdded',
  'PasskeyRemoved',
  'ApiKeyCreated',
  'ApiKeyRevoked',
  'UserDisabled',
  'UserEnabled',
  'UserDeleted',
  'ExportRequested',
] as const

const UUID = /^[\da-f]{8}-(?:[\da-f]{4}-){3}[\da-f]{12}$/

/** The translated kind, or else the event's name: `RoleGranted` is "Role granted". */
export function describeKind(kind: string): string {
  if ((KINDS as readonly string[]).includes(kind)) return t(`audit.kind.${kind}` as MessageKey)
  return kind.replace(/([a-z])([A-Z])/g, (_, end: string, start: string) => `${end} ${start.toLowerCase()}`)
}

/** The user who did it, or the subject if nobody was signed in. */
export function personOf({ actor_id, data }: AuditEntry): string | null {
  return actor_id ?? (typeof data.user_id === 'string' ? data.user_id : null)
}

/** The other data of the entry: names and values. */
export function factsOf({ data }: AuditEntry): [string, string][] {
  const rest = Object.entries(data).filter(
    ([name, value]) => name !== 'user_id' && name !== 'by' && value !== null,
  )
  return rest.map(([name, value]) => [name.replace(/_id$/, '').replaceAll('_', ' '), describe(value)])
}

/** The end of an id, because its beginning is only a timestamp. */
export function shortId(id: string): string {
  return `…${id.slice(-8)}`
}

function describe(value: unknown): string {
  if (typeof value === 'boolean') return t(value ? 'yes' : 'no')
  if (typeof value === 'string') return UUID.test(value) ? shortId(value) : value
  return JSON.stringify(value)
}
