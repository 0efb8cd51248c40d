/** Dates, sizes and counts, in the language that the rest of the page speaks. */

const LANGUAGE = 'en-GB'

const dateFormat = new Intl.DateTimeFormat(LANGUAGE, { day: 'numeric', month: 'long', year: 'numeric' })
const timeFormat = new Intl.DateTimeFormat(LANGUAGE, { hour: '2-digit', minute: '2-digit' })
const relativeFormat = new Intl.RelativeTimeFormat(LANGUAGE, { numeric: 'auto' })

const STEPS: [Intl.RelativeTimeFormatUnit, number][] = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
]

export function formatToday(): string {
  return new Intl.DateTimeFormat(LANGUAGE, { dateStyle: 'full' }).format(new Date())
}

export function formatNumber(number: number): string {
  return new Intl.NumberFormat(LANGUAGE).format(number)
}

export function formatDate(iso: string): string {
  return dateFormat.format(new Date(iso))
}

export function formatTime(date: Date): string {
  return timeFormat.format(date)
}

/** "2 hours ago", "yesterday", and after a week the date. */
export function formatAge(iso: string, now = Date.now()): string {
  const seconds = (new Date(iso).getTime() - now) / 1000
  if (Math.abs(seconds) > 7 * 86_400) return formatDate(iso)
  const [unit, size] = STEPS.find(([, size]) => Math.abs(seconds) >= size) ?? ['second', 0]
  return size ? relativeFormat.format(Math.trunc(seconds / size), unit) : 'just now'
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
  return `${Math.max(1, Math.round(countWords(text) / 220))} min read`
}

/** `plural(1, 'comment')` is "1 comment", `plural(2, 'comment')` is "2 comments". */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}
