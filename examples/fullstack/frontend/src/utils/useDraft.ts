import { computed, onScopeDispose, ref, shallowRef, watch } from 'vue'
import { useRouter } from 'vue-router'
import { ErrorCode } from '@/api/errorCodes.gen'
import { APIError } from '@/api/errors'
import * as api from '@/api/posts'
import type { Post } from '@/api/types'
import { useStore } from '@/store'
import { useForm } from './useForm'
import { useWindowEvent } from './useWindowEvent'

const PAUSE = 1_200 // Milliseconds without a keystroke before a draft is saved automatically.
const EMPTY = { title: '', subtitle: '', content: '' }

type Words = typeof EMPTY

/**
 * A post in the editor: loads it, saves drafts automatically, and never overwrites another change.
 *
 * A published post is saved only on request. Saves are sent one at a time, each with the version it is based on. If
 * the API has a newer version, it is in `conflict` until `keepMine` or `adoptTheirs`.
 */
export function useDraft(id: () => string | undefined) {
  const store = useStore()
  const router = useRouter()
  const { values, busy, error, fields, alert, submit } = useForm(EMPTY)
  const post = shallowRef<Post | null>(null)
  const conflict = shallowRef<Post | null>(null)
  const loadError = shallowRef<APIError | null>(null)
  const saved = ref(JSON.stringify(EMPTY))
  const savedAt = shallowRef<Date | null>(null)

  const isChanged = computed(() => JSON.stringify(values) !== saved.value)
  const isUnreachable = computed(() => error.value !== null && error.value.kind !== 'problem')
  const savesItself = computed(
    () => !post.value?.published_at && !conflict.value && values.title.trim() !== '' && values.content !== '',
  )

  let timer = 0
  let queue: Promise<unknown> = Promise.resolve()

  watch(id, load, { immediate: true })
  watch(values, saveSoon)
  onScopeDispose(() => clearTimeout(timer))
  useWindowEvent('online', saveSoon)

  async function load(): Promise<void> {
    const wanted = id()
    if (wanted && wanted === post.value?.id) return // First save: the URL was updated to the new post.
    loadError.value = error.value = post.value = conflict.value = savedAt.value = null
    show(EMPTY)
    if (!wanted) return
    try {
      const found = await api.fetchPost(wanted)
      if (wanted !== id()) return
      if (found.author.id === store.state.auth.user?.id) adopt(found)
      else await router.replace({ name: 'post', params: { id: found.id } })
    } catch (failure) {
      if (wanted === id()) loadError.value = APIError.from(failure)
    }
  }

  function show({ title, subtitle, content }: Pick<Post, 'title' | 'subtitle' | 'content'>): void {
    Object.assign(values, { title, subtitle: subtitle ?? '', content })
    saved.value = JSON.stringify(values)
  }

  function adopt(found: Post): void {
    post.value = found
    show(found)
  }

  function saveSoon(): void {
    clearTimeout(timer)
    if (isChanged.value && savesItself.value) timer = window.setTimeout(() => void save(), PAUSE)
  }

  /** Saves what has changed; true when everything is saved. */
  function save(): Promise<boolean> {
    clearTimeout(timer)
    const done = queue.then(() => (isChanged.value || !post.value ? submit(send) : true))
    queue = done
    return done
  }

  async function send({ title, subtitle, content }: Words): Promise<void> {
    const before = post.value
    const sent = JSON.stringify({ title, subtitle, content })
    const words = { title: title.trim(), subtitle: subtitle.trim() || null, content }
    try {
      post.value = before
        ? await api.updatePost(before.id, { ...words, version: before.version })
        : await api.createPost(words)
    } catch (failure) {
      if (before && APIError.from(failure).is(ErrorCode.STALE_VERSION)) {
        conflict.value = await api.fetchPost(before.id)
      }
      throw failure
    }
    saved.value = sent
    savedAt.value = new Date()
    if (post.value.published_at) store.commit('feed/cleared')
    if (!before) await router.replace({ name: 'edit', params: { id: post.value.id } })
    saveSoon() // For text typed in the meantime.
  }

  /** Saves this text over the conflicting version. */
  function keepMine(): Promise<boolean> {
    post.value = conflict.value
    conflict.value = null
    return save()
  }

  /** Replaces this text with the conflicting version. */
  function adoptTheirs(): void {
    if (conflict.value) adopt(conflict.value)
    conflict.value = error.value = null
  }

  async function publish(): Promise<boolean> {
    if (!(await save()) || !post.value) return false
    const { id: postId } = post.value
    const done = await submit(async () => void (post.value = await api.publishPost(postId)))
    if (done) store.commit('feed/cleared')
    return done
  }

  async function remove(): Promise<boolean> {
    clearTimeout(timer)
    await queue
    const { id: postId } = post.value as Post
    const done = await submit(() => api.deletePost(postId))
    if (done) {
      saved.value = JSON.stringify(values)
      store.commit('feed/cleared')
    }
    return done
  }

  return {
    ...{ values, busy, error, fields, alert, post, conflict, loadError, savedAt },
    ...{ isChanged, isUnreachable, savesItself, load, save, keepMine, adoptTheirs, publish, remove },
  }
}
