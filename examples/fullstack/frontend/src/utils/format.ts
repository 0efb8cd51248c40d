/** Formats dates, sizes and counts in the page's language. */
import { locale, plural, t } from '@/i18n'

const STEPS: [Intl.RelativeTimeFormatUnit, number][] = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
]

export function formatToday(): string {
  return new Intl.DateTimeFormat(locale().tag, { dateStyle: 'full' }).format(new Date())
}

export function formatNumber(number: number): string {
  return new Intl.NumberFormat(locale().tag).format(number)
}

export function formatDate(iso: string): string {
  return new Intl.DateTimeFormat(locale().tag, { dateStyle: 'long' }).format(new Date(iso))
}

export function formatDateTime(iso: string): string {
  return new Intl.DateTimeFormat(locale().tag, { dateStyle: 'medium', timeStyle: 'short' }).format(
    new Date(iso),
  )
}

export function formatTime(date: Date): string {
  return new Intl.DateTimeFormat(locale().tag, { hour: '2-digit', minute: '2-digit' }).format(date)
}

/** The start of the day a number of days ago, in local time. */
export function daysAgo(days: number): string {
  const day = new Date()
  day.setDate(day.getDate() - days)
  day.setHours(0, 0, 0, 0)
  return day.toISOString()
}

/** "2 hours ago", "yesterday", and after a week the date. */
export function formatAge(iso: string, now = Date.now()): string {
  const seconds = (new Date(iso).getTime() - now) / 1000
  if (Math.abs(seconds) > 7 * 86_400) return formatDate(iso)
  const [unit, size] = STEPS.find(([, size]) => Math.abs(seconds) >= size) ?? ['second', 0]
  if (!size) return t('time.now')
  return new Intl.RelativeTimeFormat(locale().tag, { numeric: 'auto' }).format(
    Math.trunc(seconds / size),
    unit,
  )
}

export function formatSize(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`
  const kilobytes = bytes / 1024
  return kilobytes < 1024 ? `${Math.round(kilobytes)} kB` : `${(kilobytes / 1024).toFixed(1)} MB`
}

export function countWords(text: string): number {
  return text.match(/[\p{L}\p{N}][\p{L}\p{N}’'-]*/gu)?.length ?? 0
}

/** How long a text takes to read, at 220 words a minute. */
export function readingTime(text: string): string {
  return plural('time.reading', Math.max(1, Math.round(countWords(text) / 220)))
}
