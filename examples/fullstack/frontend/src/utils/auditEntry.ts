/** What an entry of the audit trail says, for people. */
import type { AuditEntry } from '@/api/types'
import { t, type MessageKey } from '@/i18n'

/** The kinds that one looks for. */
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

/** In the words of the page where it knows them, else the event's own: `RoleGranted` is "Role granted". */
export function describeKind(kind: string): string {
  if ((KINDS as readonly string[]).includes(kind)) return t(`audit.kind.${kind}` as MessageKey)
  return kind.replace(/([a-z])([A-Z])/g, (_, end: string, start: string) => `${end} ${start.toLowerCase()}`)
}

/** Who did it, or, where nobody was signed in yet, whom it is about. */
export function personOf({ actor_id, data }: AuditEntry): string | null {
  return actor_id ?? (typeof data.user_id === 'string' ? data.user_id : null)
}

/** The rest of what was written down: names and values. */
export function factsOf({ data }: AuditEntry): [string, string][] {
  const rest = Object.entries(data).filter(
    ([name, value]) => name !== 'user_id' && name !== 'by' && value !== null,
  )
  return rest.map(([name, value]) => [name.replace(/_id$/, '').replaceAll('_', ' '), describe(value)])
}

/** The end of an id: its beginning says only when it was made. */
export function shortId(id: string): string {
  return `…${id.slice(-8)}`
}

function describe(value: unknown): string {
  if (typeof value === 'boolean') return t(value ? 'yes' : 'no')
  if (typeof value === 'string') return UUID.test(value) ? shortId(value) : value
  return JSON.stringify(value)
}
