/** What the pages say, in two languages: typed keys, `Intl` for numbers and plurals, and the second one on demand. */
import { shallowRef } from 'vue'
import { en } from './en'

export type MessageKey = keyof typeof en
export type Messages = Readonly<Record<MessageKey, string>>
export type Language = keyof typeof LANGUAGES
type PluralKey = MessageKey extends infer K ? (K extends `${infer Base}.other` ? Base : never) : never
type Values = Readonly<Record<string, string | number>>

export interface Locale {
  language: Language
  /** For `Intl`. */
  tag: string
  messages: Messages
  /** The API's sentences, which are English, with `{n}` for each number in them. */
  server: Readonly<Record<string, string>>
}

export const LANGUAGES = { en: 'English', de: 'Deutsch' } as const

const english: Locale = { language: 'en', tag: 'en-GB', messages: en, server: {} }
const current = shallowRef(english)

/** Speaks this language from now on; templates that called `t` are rendered anew. */
export async function setLanguage(language: Language): Promise<void> {
  current.value = language === 'de' ? (await import('./de')).german : english
  document.documentElement.lang = language
}

export function locale(): Locale {
  return current.value
}

/** A sentence; `{name}` in it becomes a value. */
export function t(key: MessageKey, values: Values = {}): string {
  return fill(current.value.messages[key], values)
}

/** A sentence with a count in it: `key.one` or `key.other`, as the language has it. */
export function plural(key: PluralKey, count: number): string {
  const form = new Intl.PluralRules(current.value.tag).select(count) === 'one' ? 'one' : 'other'
  return t(`${key}.${form}` as MessageKey, { count: new Intl.NumberFormat(current.value.tag).format(count) })
}

/** What the API said, in the language of the page where we know the sentence. */
export function fromServer(sentence: string): string {
  const numbers = sentence.match(/\d+/g) ?? []
  const known = current.value.server[sentence.replace(/\d+/g, '{n}')]
  return known?.replaceAll('{n}', () => numbers.shift() ?? '') ?? sentence
}

/** The language that was chosen here before, else the first of the browser's that we speak. */
export function preferredLanguage(stored: string | null, wanted: readonly string[]): Language {
  const known = (tag: string): tag is Language => tag in LANGUAGES
  return [stored ?? '', ...wanted].map((tag) => tag.split('-')[0] ?? '').find(known) ?? 'en'
}

function fill(text: string, values: Values): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole))
}
