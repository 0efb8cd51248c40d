/**
 * The token after the `#` of a link in a mail. Removes it from the address bar and the history,
 * so that nobody else can read it there.
 */
export function takeMailToken(): string {
  const token = new URLSearchParams(location.hash.slice(1)).get('token') ?? ''
  if (token) history.replaceState(history.state, '', location.pathname + location.search)
  return token
}
