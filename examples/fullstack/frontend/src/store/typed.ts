/**
 * Types for Vuex 4, whose own are `any` from end to end.
 *
 * `defineModule` checks a module where it is written: every `commit` in its actions has a known name and payload.
 * `TypedStore` checks it where it is used: `store.commit('ui/theme', 'dark')`, `await store.dispatch('auth/signIn', c)`.
 */
import type { Module, Store } from 'vuex'

// Contravariant on purpose: a function with any parameters is assignable to one that takes `never`.
type Functions = Record<string, (subject: never, payload: never) => unknown>

export interface ModuleParts {
  state: () => object
  getters: Record<string, (state: never) => unknown>
  mutations: Functions
  actions: Functions
}

type Payload<F> = F extends (subject: never, ...payload: infer P) => unknown ? P : never
type Result<F> = F extends (...args: never) => infer R ? R : never

/** The context of a module's actions: its own state, getters and mutations are typed, the rest is not. */
export interface Context<S, G, M> {
  state: S
  getters: { readonly [K in keyof G]: Result<G[K]> }
  commit: <K extends keyof M & string>(type: K, ...payload: Payload<M[K]>) => void
  dispatch: (type: string, payload?: unknown) => Promise<unknown>
}

/** A namespaced module, with everything in it inferred. */
export function defineModule<
  S extends object,
  G extends Record<string, (state: S) => unknown>,
  M extends Record<string, (state: S, payload: never) => void>,
  A extends Functions,
>(parts: {
  state: () => S
  getters: G
  mutations: M
  actions: A & Record<string, (context: Context<S, G, M>, payload: never) => unknown>
}): { namespaced: true; state: () => S; getters: G; mutations: M; actions: A } {
  return { namespaced: true, ...parts }
}

type Modules = Record<string, ModuleParts>

/** `module/member`, for every member of one part of every module. */
type Path<Ms extends Modules, Part extends keyof ModuleParts> = {
  [N in keyof Ms & string]: `${N}/${keyof Ms[N][Part] & string}`
}[keyof Ms & string]

type Member<Ms extends Modules, Part extends keyof ModuleParts, P> = P extends `${infer N}/${infer K}`
  ? N extends keyof Ms
    ? K extends keyof Ms[N][Part]
      ? Ms[N][Part][K]
      : never
    : never
  : never

export type StateOf<Ms extends Modules> = { [N in keyof Ms]: ReturnType<Ms[N]['state']> }

export type TypedStore<Ms extends Modules> = Omit<Store<StateOf<Ms>>, 'getters' | 'commit' | 'dispatch'> & {
  readonly getters: { readonly [P in Path<Ms, 'getters'>]: Result<Member<Ms, 'getters', P>> }
  commit<P extends Path<Ms, 'mutations'>>(type: P, ...payload: Payload<Member<Ms, 'mutations', P>>): void
  dispatch<P extends Path<Ms, 'actions'>>(
    type: P,
    ...payload: Payload<Member<Ms, 'actions', P>>
  ): Promise<Awaited<Result<Member<Ms, 'actions', P>>>>
}

/** The modules in Vuex's own types. */
export function asVuex<Ms extends Modules>(modules: Ms) {
  return modules as unknown as Record<keyof Ms & string, Module<unknown, StateOf<Ms>>>
}
