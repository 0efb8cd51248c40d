// Runs before the first paint, so that the page never flashes in the wrong theme.
// A file rather than an inline script: the Content-Security-Policy is default-src 'self'.
try {
  var theme = localStorage.getItem('pilcrow.theme')
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme
} catch {
  // No storage: the system's theme it is.
}
