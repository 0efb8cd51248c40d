/**
 * The token that a mail's link carries behind its `#`, taken out of the address bar and of the history:
 * whoever looks over a shoulder, or at the history later, finds no token there.
 */
export function takeMailToken(): string {
  const token = new URLSearchParams(location.hash.slice(1)).get('token') ?? ''
  if (token) history.replaceState(history.state, '', location.pathname + location.search)
  return token
}
