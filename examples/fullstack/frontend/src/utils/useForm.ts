import { computed, reactive, ref } from 'vue'
import { APIError } from '@/api/errors'

/**
 * A form's values, its pending state, and the server's messages by field.
 *
 * Messages for fields of the form are shown beside them; all others are `alert`, one message for the form.
 */
export function useForm<Values extends object>(initial: Values) {
  const values = reactive({ ...initial }) as Values
  const busy = ref(false)
  const error = ref<APIError | null>(null)

  const fields = computed<Partial<Record<keyof Values & string, string>>>(
    () => ({ ...error.value?.fields }) as never,
  )
  const known = computed(() => Object.keys(error.value?.fields ?? {}).filter((field) => field in initial))
  const alert = computed(() => (error.value && known.value.length === 0 ? error.value.message : ''))

  /** Runs `send` with the values; true if the server accepted them. */
  async function submit(send: (values: Values) => Promise<unknown>): Promise<boolean> {
    if (busy.value) return false
    busy.value = true
    error.value = null
    try {
      await send({ ...values })
      return true
    } catch (failure) {
      error.value = APIError.from(failure)
      return false
    } finally {
      busy.value = false
    }
  }

  return { values, busy, error, fields, alert, submit }
}
