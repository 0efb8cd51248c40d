import { afterEach, describe, expect, it } from 'vitest'
import { german } from '@/i18n/de'
import { en } from '@/i18n/en'
import { fromServer, plural, preferredLanguage, setLanguage, t } from '@/i18n'
import { formatDate } from '@/utils/format'

afterEach(() => setLanguage('en'))

const names = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(String).sort()

it('puts values where the sentence has their names', () => {
  expect(t('desk.signedInAs', { email: 'ada@example.com' })).toBe('Signed in as ada@example.com')
  expect(t('desk.signedInAs')).toBe('Signed in as {email}')
})

it('says the same in both languages, with the same values', () => {
  for (const [key, text] of Object.entries(german.messages)) {
    expect(names(text), key).toEqual(names(en[key as keyof typeof en]))
  }
})

it('counts as each language does', async () => {
  expect([1, 0, 1234].map((count) => plural('comments', count))).toEqual([
    '1 comment',
    '0 comments',
    '1,234 comments',
  ])
  await setLanguage('de')
  expect(plural('comments', 1234)).toBe('1.234 Kommentare')
  expect(formatDate('2026-03-01T12:00:00Z')).toBe('1. März 2026')
  expect(document.documentElement.lang).toBe('de')
})

describe('what the API says', () => {
  it('is translated where it is known, its numbers too', async () => {
    await setLanguage('de')
    expect(fromServer('Use at least 8 characters.')).toBe('Mindestens 8 Zeichen.')
    expect(fromServer('Something new.')).toBe('Something new.')
  })

  it('stays as it is in English', () => {
    expect(fromServer('Use at least 8 characters.')).toBe('Use at least 8 characters.')
  })
})

it.each([
  [null, ['fr-FR', 'de-CH', 'en'], 'de'],
  ['en', ['de'], 'en'],
  ['tlh', ['ja'], 'en'],
] as const)('prefers, with %s stored and %s wanted, %s', (stored, wanted, language) => {
  expect(preferredLanguage(stored, wanted)).toBe(language)
})
