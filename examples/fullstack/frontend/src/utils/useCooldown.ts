import { onScopeDispose, ref } from 'vue'

/** Counts down the seconds until a request may be repeated. */
export function useCooldown(seconds: number) {
  const left = ref(0)
  let timer = 0

  function start(): void {
    clearInterval(timer)
    left.value = seconds
    timer = window.setInterval(() => {
      left.value -= 1
      if (left.value <= 0) clearInterval(timer)
    }, 1_000)
  }

  onScopeDispose(() => clearInterval(timer))
  return { left, start }
}
