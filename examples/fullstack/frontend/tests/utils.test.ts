import { describe, expect, it } from 'vitest'
import { excerpt } from '@/utils/excerpt'
import { countWords, formatAge, formatSize, readingTime } from '@/utils/format'
import { renderMarkdown } from '@/utils/markdown'
import { link, prefix, wrap } from '@/utils/markdownEdits'

describe('renderMarkdown', () => {
  it('renders what writers use', () => {
    const html = renderMarkdown('# Title\n\nSome *words*, ~~gone~~.\n\n| A | B |\n| :- | -: |\n| 1 | 2 |')
    expect(html).toContain('<h2>Title</h2>')
    expect(html).toContain('<em>words</em>')
    expect(html).toContain('<del>gone</del>')
    expect(html).toContain('<td data-align="right">2</td>')
  })

  it.each([
    '<script>alert(1)</script>',
    '<img src=x onerror=alert(1)>',
    '<svg/onload=alert(1)>',
    '<p style="position:fixed">x</p>',
    '[x](javascript:alert(1))',
    '[x](JaVaScRiPt:alert(1))',
    '[x](data:text/html,<script>alert(1)</script>)',
    '![x](javascript:alert(1))',
    '![x](https://evil.example/pixel.gif)',
    '[x](https://a.example "\\" onmouseover=\\"alert(1)")',
    '<https://a.example/"onclick="alert(1)>',
  ])('lets nothing dangerous through: %s', (source) => {
    const { body } = new DOMParser().parseFromString(renderMarkdown(source), 'text/html')
    expect(body.querySelectorAll('script, img, svg, style, iframe')).toHaveLength(0)
    for (const element of body.querySelectorAll('*')) {
      for (const { name, value } of element.attributes) {
        expect(name).not.toMatch(/^(on|style)/)
        expect(value).not.toMatch(/^\s*(javascript|data):/i)
      }
    }
  })

  it('vouches for no link that leads elsewhere', () => {
    expect(renderMarkdown('See https://a.example/x.')).toContain(
      '<a href="https://a.example/x" rel="noopener nofollow ugc">',
    )
    expect(renderMarkdown('[here](/desk)')).toContain('<a href="/desk">')
  })

  it('shows our own pictures only', () => {
    expect(renderMarkdown('![A map](/files/map.png)')).toContain('<img src="/files/map.png" alt="A map">')
    expect(renderMarkdown('![A map](//evil.example/map.png)')).not.toContain('<img')
  })
})

describe('excerpt', () => {
  it('leaves the marks out and stops between words', () => {
    expect(excerpt('## Head\n\nSome *fine* [words](/x) and `code`.', 100)).toBe(
      'Head Some fine words and code.',
    )
    expect(excerpt('One two three, four', 15)).toBe('One two three…')
  })
})

describe('formats', () => {
  it('count', () => {
    expect(countWords('It’s a well-kept *list*: 2 items — no more.')).toBe(8)
    expect(readingTime('word '.repeat(660))).toBe('3 min read')
    expect(formatSize(900)).toBe('900 B')
    expect(formatSize(283_000)).toBe('276 kB')
    expect(formatSize(3_400_000)).toBe('3.2 MB')
  })

  it('tell how long ago something was', () => {
    const now = Date.parse('2026-03-10T12:00:00Z')
    expect(formatAge('2026-03-10T11:59:40Z', now)).toBe('just now')
    expect(formatAge('2026-03-10T10:30:00Z', now)).toBe('1 hour ago')
    expect(formatAge('2026-03-09T11:00:00Z', now)).toBe('yesterday')
    expect(formatAge('2026-01-01T12:00:00Z', now)).toContain('2026')
  })
})

describe('editing Markdown', () => {
  const select = (text: string, part: string) => {
    const start = text.indexOf(part)
    return { text, start, end: start + part.length }
  }

  it('marks a selection, and unmarks it again', () => {
    const marked = wrap('**')(select('one two', 'two'))
    expect(marked).toEqual(select('one **two**', 'two'))
    expect(wrap('**')(marked)).toEqual(select('one two', 'two'))
  })

  it('starts every line of a selection, and takes it back', () => {
    const listed = prefix('- ')(select('a\nb\nc', 'b\nc'))
    expect(listed.text).toBe('a\n- b\n- c')
    expect(prefix('- ')(listed).text).toBe('a\nb\nc')
  })

  it('makes a link and waits for its address', () => {
    const { text, start, end } = link(select('see here', 'here'))
    expect(text).toBe('see [here](https://)')
    expect(text.slice(start, end)).toBe('https://')
  })
})
