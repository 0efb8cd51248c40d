/** Markdown to HTML that is safe to show: CommonMark with tables, strikethrough and bare links. */
import { micromark } from 'micromark'
import { gfmAutolinkLiteral, gfmAutolinkLiteralHtml } from 'micromark-extension-gfm-autolink-literal'
import { gfmStrikethrough, gfmStrikethroughHtml } from 'micromark-extension-gfm-strikethrough'
import { gfmTable, gfmTableHtml } from 'micromark-extension-gfm-table'

/** HTML in the source is escaped, and only http, https, mailto and relative links are kept. */
export function renderMarkdown(source: string): string {
  const html = micromark(source, {
    allowDangerousHtml: false,
    allowDangerousProtocol: false,
    extensions: [gfmAutolinkLiteral(), gfmStrikethrough(), gfmTable()],
    htmlExtensions: [gfmAutolinkLiteralHtml(), gfmStrikethroughHtml(), gfmTableHtml()],
  })
  return settle(html)
}

// An inert document: nothing in it loads or runs.
function settle(html: string): string {
  const { body } = new DOMParser().parseFromString(html, 'text/html')

  for (const link of body.querySelectorAll('a[href]')) {
    if (/^https?:/i.test(link.getAttribute('href') ?? '')) link.setAttribute('rel', 'noopener nofollow ugc')
  }
  for (const image of body.querySelectorAll('img')) keepOwn(image)
  for (const cell of body.querySelectorAll('[align]')) keepAlignment(cell)
  for (const table of body.querySelectorAll('table')) makeScrollable(table)
  for (const block of body.querySelectorAll('pre')) block.tabIndex = 0 // Scrollable with the keyboard.
  // The page's h1 is the post's title.
  for (const heading of body.querySelectorAll('h1')) lower(heading)
  return body.innerHTML
}

// External images would track readers, so they become links.
function keepOwn(image: HTMLImageElement): void {
  const source = image.getAttribute('src') ?? ''
  if (/^\/(?!\/)/.test(source)) return
  const link = image.ownerDocument.createElement('a')
  link.textContent = image.alt || source
  if (/^https?:/i.test(source)) Object.assign(link, { href: source, rel: 'noopener nofollow ugc' })
  image.replaceWith(link)
}

function keepAlignment(cell: Element): void {
  cell.setAttribute('data-align', cell.getAttribute('align') ?? '')
  cell.removeAttribute('align')
}

function makeScrollable(table: HTMLTableElement): void {
  const box = table.ownerDocument.createElement('div')
  box.className = 'prose-table'
  box.tabIndex = 0
  table.replaceWith(box)
  box.append(table)
}

function lower(heading: Element): void {
  const lowered = heading.ownerDocument.createElement('h2')
  lowered.append(...heading.childNodes)
  heading.replaceWith(lowered)
}
