/** The edits of the editor's buttons, on a text and its selection. */
export interface Selection {
  text: string
  start: number
  end: number
}

export type Edit = (selection: Selection) => Selection

/** Adds or removes a mark on both sides of the selection. */
export function wrap(mark: string): Edit {
  return ({ text, start, end }) => {
    const inner = text.slice(start, end)
    const marked =
      text.slice(start - mark.length, start) === mark && text.slice(end, end + mark.length) === mark
    if (marked) {
      const from = start - mark.length
      return {
        text: text.slice(0, from) + inner + text.slice(end + mark.length),
        start: from,
        end: from + inner.length,
      }
    }
    const from = start + mark.length
    return {
      text: text.slice(0, start) + mark + inner + mark + text.slice(end),
      start: from,
      end: from + inner.length,
    }
  }
}

/** Adds or removes a mark at the start of every selected line. */
export function prefix(mark: string): Edit {
  return ({ text, start, end }) => {
    const from = text.lastIndexOf('\n', start - 1) + 1
    const to = text.indexOf('\n', end) === -1 ? text.length : text.indexOf('\n', end)
    const lines = text.slice(from, to).split('\n')
    const off = lines.every((line) => line.startsWith(mark))
    const block = lines.map((line) => (off ? line.slice(mark.length) : mark + line)).join('\n')
    return { text: text.slice(0, from) + block + text.slice(to), start: from, end: from + block.length }
  }
}

/** Turns the selection into a link, and selects the placeholder of its URL. */
export const link: Edit = ({ text, start, end }) => {
  const inner = text.slice(start, end) || 'link'
  const at = start + inner.length + 3
  return { text: `${text.slice(0, start)}[${inner}](https://)${text.slice(end)}`, start: at, end: at + 8 }
}
