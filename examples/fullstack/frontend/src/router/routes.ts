import type { RouteRecordRaw } from 'vue-router'
import HomeView from '@/views/HomeView.vue'

declare module 'vue-router' {
  interface RouteMeta {
    /** The document's title. */
    title: string
    requiresAuth?: boolean
    requiresGuest?: boolean
    /** The page fills the window: no masthead, no footer. */
    bare?: boolean
  }
}

export const routes: RouteRecordRaw[] = [
  { path: '/', name: 'home', component: HomeView, meta: { title: 'Front page' } },
  {
    path: '/signin',
    name: 'signIn',
    component: () => import('@/views/SignInView.vue'),
    meta: { title: 'Sign in', requiresGuest: true, bare: true },
  },
  {
    path: '/signup',
    name: 'signUp',
    component: () => import('@/views/SignUpView.vue'),
    meta: { title: 'Create an account', requiresGuest: true, bare: true },
  },
  {
    path: '/desk',
    name: 'desk',
    component: () => import('@/views/DeskView.vue'),
    meta: { title: 'Your desk', requiresAuth: true },
  },
  {
    path: '/posts/:id',
    name: 'post',
    component: () => import('@/views/PostView.vue'),
    props: true,
    meta: { title: 'Post' },
  },
  {
    path: '/write',
    name: 'write',
    component: () => import('@/views/EditorView.vue'),
    meta: { title: 'New post', requiresAuth: true },
  },
  {
    path: '/posts/:id/edit',
    name: 'edit',
    component: () => import('@/views/EditorView.vue'),
    props: true,
    meta: { title: 'Edit post', requiresAuth: true },
  },
  {
    path: '/exports',
    name: 'exports',
    component: () => import('@/views/ExportsView.vue'),
    meta: { title: 'Exports', requiresAuth: true },
  },
  {
    path: '/:path(.*)*',
    name: 'notFound',
    component: () => import('@/views/NotFoundView.vue'),
    meta: { title: 'Page not found' },
  },
]
