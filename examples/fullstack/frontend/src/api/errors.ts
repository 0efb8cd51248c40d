import axios from 'axios'
import { fromServer, t } from '@/i18n'
import type { ErrorCode } from './errorCodes.gen'
import type { Problem } from './types'

/** How a request failed. `problem`: the API answered with a problem document. */
export type FailureKind = 'problem' | 'network' | 'timeout' | 'cancelled' | 'unknown'

/** The only error that `src/api` throws: a message to show, and details for programs. */
export class APIError extends Error {
  override readonly name = 'APIError'

  constructor(
    message: string,
    readonly kind: FailureKind,
    readonly status = 0,
    readonly code = 0,
    /** The first message of each invalid field. */
    readonly fields: Readonly<Record<string, string>> = {},
    readonly requestId: string | null = null,
  ) {
    super(message)
  }

  /** Whether the API answered with one of these codes. */
  is(...codes: ErrorCode[]): boolean {
    return this.kind === 'problem' && (codes as number[]).includes(this.code)
  }

  /** Converts any error of a request to an `APIError`. */
  static from(failure: unknown): APIError {
    if (failure instanceof APIError) return failure
    if (axios.isCancel(failure)) return APIError.of('cancelled')
    if (!axios.isAxiosError(failure)) return APIError.of('unknown')
    if (!failure.response) return APIError.of(failure.code === 'ECONNABORTED' ? 'timeout' : 'network')
    const { data, status } = failure.response
    return isProblem(data) ? APIError.fromProblem(data) : APIError.of('unknown', status)
  }

  private static of(kind: Exclude<FailureKind, 'problem'>, status = 0): APIError {
    return new APIError(t(`failure.${kind}`), kind, status)
  }

  private static fromProblem(problem: Problem): APIError {
    const fields: Record<string, string> = {}
    for (const { field, message } of problem.errors ?? []) fields[field] ??= fromServer(message)
    const { detail, status, internal_code, request_id } = problem
    return new APIError(fromServer(detail), 'problem', status, internal_code, fields, request_id ?? null)
  }
}

// A proxy may answer with its own page, so the body's shape is checked.
function isProblem(data: unknown): data is Problem {
  return typeof data === 'object' && data !== null && 'internal_code' in data && 'detail' in data
}
