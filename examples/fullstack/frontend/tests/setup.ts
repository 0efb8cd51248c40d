// What jsdom has no use for, since it lays nothing out.
window.scrollTo = () => undefined
