import { AxiosError, CanceledError, type InternalAxiosRequestConfig } from 'axios'
import { describe, expect, it } from 'vitest'
import { ErrorCode } from '@/api/errorCodes.gen'
import { APIError } from '@/api/errors'

const config = { headers: {} } as InternalAxiosRequestConfig

function answered(status: number, data: unknown): AxiosError {
  return new AxiosError('', undefined, config, undefined, {
    status,
    data,
    config,
    statusText: '',
    headers: {},
  })
}

describe('APIError.from', () => {
  it('reads a problem document', () => {
    const error = APIError.from(
      answered(422, {
        status: 422,
        detail: 'Some of the values are not acceptable.',
        internal_code: 42200,
        request_id: 'r-9',
        errors: [
          { field: 'email', message: 'First.', type: 'a' },
          { field: 'email', message: 'Second.', type: 'b' },
        ],
      }),
    )
    expect(error).toMatchObject({
      kind: 'problem',
      status: 422,
      requestId: 'r-9',
      fields: { email: 'First.' },
    })
    expect(error.message).toBe('Some of the values are not acceptable.')
    expect(error.is(ErrorCode.UNPROCESSABLE)).toBe(true)
    expect(error.is(ErrorCode.NOT_FOUND)).toBe(false)
    // @ts-expect-error -- 99999 is no code of the API's
    error.is(99999)
  })

  it.each([
    ['a proxy’s own page', answered(502, '<html>Bad gateway</html>'), 'unknown'],
    ['no answer', new AxiosError('Network Error', AxiosError.ERR_NETWORK, config), 'network'],
    ['a late answer', new AxiosError('timeout', AxiosError.ECONNABORTED, config), 'timeout'],
    ['a cancelled request', new CanceledError(), 'cancelled'],
    ['a mistake of ours', new TypeError('x is not a function'), 'unknown'],
  ])('makes a sentence of %s', (_what, failure, kind) => {
    const error = APIError.from(failure)
    expect(error.kind).toBe(kind)
    expect(error.message).toMatch(/\.$/)
    expect(error.is(ErrorCode.SERVER)).toBe(false)
  })

  it('leaves its own kind alone', () => {
    const error = new APIError('No.', 'problem')
    expect(APIError.from(error)).toBe(error)
  })
})
