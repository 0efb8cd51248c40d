/** Listens to a stream of server-sent events until it is told to stop, or until the server refuses. */
export function follow<T>(
  url: string,
  { onData, onRefused }: { onData: (data: T) => void; onRefused: () => void },
) {
  const source = new EventSource(url)
  source.onmessage = ({ data }: MessageEvent<string>) => onData(JSON.parse(data) as T)
  source.onerror = () => {
    // The browser tries again by itself after a broken line, but not after a status that says no.
    if (source.readyState === EventSource.CLOSED) onRefused()
  }
  return () => source.close()
}
