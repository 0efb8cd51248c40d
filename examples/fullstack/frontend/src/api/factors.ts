/** Second factors and passkeys: set up, and sign in. */
import { apiClient } from './apiClient'
import type { Challenge, FactorStatus, Passkey, TotpSetup, User } from './types'

export async function fetchFactors(signal?: AbortSignal): Promise<FactorStatus> {
  return (await apiClient.get<FactorStatus>('/auth/mfa', { signal })).data
}

export async function setUpTotp(): Promise<TotpSetup> {
  return (await apiClient.post<TotpSetup>('/auth/mfa/totp/setup')).data
}

/** Turns it on, and returns the recovery codes, which are shown only now. */
export async function confirmTotp(code: string): Promise<string[]> {
  return (await apiClient.post<{ recovery_codes: string[] }>('/auth/mfa/totp/confirm', { code })).data
    .recovery_codes
}

export async function disableTotp(code: string): Promise<void> {
  await apiClient.post('/auth/mfa/totp/disable', { code })
}

export async function renewRecoveryCodes(code: string): Promise<string[]> {
  return (await apiClient.post<{ recovery_codes: string[] }>('/auth/mfa/recovery-codes', { code })).data
    .recovery_codes
}

/** Finishes signing in. */
export async function verifyCode({ challenge }: Challenge, code: string): Promise<User> {
  return (await apiClient.post<User>('/auth/mfa/verify', { challenge, code })).data
}

export async function fetchPasskeys(signal?: AbortSignal): Promise<Passkey[]> {
  return (await apiClient.get<Passkey[]>('/auth/passkeys', { signal })).data
}

export async function removePasskey(id: string): Promise<void> {
  await apiClient.delete(`/auth/passkeys/${id}`)
}

/** Creates a passkey in the browser, and adds it. */
export async function addPasskey(name: string): Promise<Passkey> {
  const { data } = await apiClient.post<{ options: PublicKeyCredentialCreationOptionsJSON }>(
    '/auth/passkeys/options',
  )
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(data.options)
  const credential = (await navigator.credentials.create({ publicKey })) as PublicKeyCredential
  return (await apiClient.post<Passkey>('/auth/passkeys', { name, credential: credential.toJSON() })).data
}

/** Signs in with a passkey of the browser. */
export async function signInWithPasskey(): Promise<User> {
  const { data } = await apiClient.post<{ options: PublicKeyCredentialRequestOptionsJSON }>(
    '/auth/passkeys/signin/options',
  )
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(data.options)
  const credential = (await navigator.credentials.get({ publicKey })) as PublicKeyCredential
  const payload = { credential: credential.toJSON(), remember: true }
  return (await apiClient.post<User>('/auth/passkeys/signin', payload)).data
}

/** Whether this browser supports passkeys. */
export function knowsPasskeys(): boolean {
  return typeof window.PublicKeyCredential?.parseCreationOptionsFromJSON === 'function'
}
