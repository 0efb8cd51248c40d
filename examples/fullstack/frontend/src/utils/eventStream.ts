/** Reads server-sent events until stopped, or until the server refuses. */
export function follow<T>(
  url: string,
  { onData, onRefused }: { onData: (data: T) => void; onRefused: () => void },
) {
  const source = new EventSource(url)
  source.onmessage = ({ data }: MessageEvent<string>) => onData(JSON.parse(data) as T)
  source.onerror = () => {
    // The browser reconnects after a broken connection, but not after an error status.
    if (source.readyState === EventSource.CLOSED) onRefused()
  }
  return () => source.close()
}
