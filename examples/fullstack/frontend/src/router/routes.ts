import type { RouteRecordRaw } from 'vue-router'
import type { MessageKey } from '@/i18n'
import HomeView from '@/views/HomeView.vue'

declare module 'vue-router' {
  interface RouteMeta {
    /** The document's title. */
    title: MessageKey
    requiresAuth?: boolean
    requiresGuest?: boolean
    requiresAdmin?: boolean
    /** The page fills the window: no masthead, no footer. */
    bare?: boolean
  }
}

const accounts: RouteRecordRaw[] = [
  {
    path: '/signin',
    name: 'signIn',
    component: () => import('@/views/auth/SignInView.vue'),
    meta: { title: 'title.signIn', requiresGuest: true, bare: true },
  },
  {
    path: '/signup',
    name: 'signUp',
    component: () => import('@/views/auth/SignUpView.vue'),
    meta: { title: 'title.signUp', requiresGuest: true, bare: true },
  },
  {
    path: '/forgot-password',
    name: 'forgotPassword',
    component: () => import('@/views/auth/ForgotPasswordView.vue'),
    meta: { title: 'title.forgot', bare: true },
  },
  // The pages that links in appkit's mails lead to.
  {
    path: '/reset-password',
    name: 'resetPassword',
    component: () => import('@/views/auth/ResetPasswordView.vue'),
    meta: { title: 'title.reset', bare: true },
  },
  {
    path: '/verify-email',
    name: 'verifyEmail',
    component: () => import('@/views/auth/ProveEmailView.vue'),
    meta: { title: 'title.verify', bare: true },
  },
  {
    path: '/confirm-email',
    name: 'confirmEmail',
    component: () => import('@/views/auth/ProveEmailView.vue'),
    props: { change: true },
    meta: { title: 'title.verify', bare: true },
  },
]

const settings: RouteRecordRaw = {
  path: '/settings',
  name: 'settings',
  component: () => import('@/views/settings/SettingsLayout.vue'),
  redirect: { name: 'profile' },
  meta: { title: 'nav.settings', requiresAuth: true },
  children: [
    {
      path: 'profile',
      name: 'profile',
      component: () => import('@/views/settings/ProfileView.vue'),
      meta: { title: 'settings.profile' },
    },
    {
      path: 'password',
      name: 'password',
      component: () => import('@/views/settings/PasswordView.vue'),
      meta: { title: 'settings.password' },
    },
    {
      path: 'security',
      name: 'security',
      component: () => import('@/views/settings/SecurityView.vue'),
      meta: { title: 'settings.security' },
    },
    {
      path: 'sessions',
      name: 'sessions',
      component: () => import('@/views/settings/SessionsView.vue'),
      meta: { title: 'settings.sessions' },
    },
    {
      path: 'keys',
      name: 'keys',
      component: () => import('@/views/settings/ApiKeysView.vue'),
      meta: { title: 'settings.keys' },
    },
    {
      path: 'appearance',
      name: 'appearance',
      component: () => import('@/views/settings/AppearanceView.vue'),
      meta: { title: 'settings.appearance' },
    },
    {
      path: 'data',
      name: 'data',
      component: () => import('@/views/settings/DataView.vue'),
      meta: { title: 'settings.data' },
    },
  ],
}

const admin: RouteRecordRaw = {
  path: '/admin',
  name: 'admin',
  component: () => import('@/views/admin/AdminLayout.vue'),
  redirect: { name: 'users' },
  meta: { title: 'nav.admin', requiresAdmin: true },
  children: [
    {
      path: 'users',
      name: 'users',
      component: () => import('@/views/admin/UsersView.vue'),
      meta: { title: 'admin.users' },
    },
    {
      path: 'tasks',
      name: 'tasks',
      component: () => import('@/views/admin/TasksView.vue'),
      meta: { title: 'admin.tasks' },
    },
    {
      path: 'audit',
      name: 'audit',
      component: () => import('@/views/admin/AuditView.vue'),
      meta: { title: 'admin.audit' },
    },
  ],
}

export const routes: RouteRecordRaw[] = [
  { path: '/', name: 'home', component: HomeView, meta: { title: 'nav.home' } },
  ...accounts,
  {
    path: '/desk',
    name: 'desk',
    component: () => import('@/views/DeskView.vue'),
    meta: { title: 'nav.desk', requiresAuth: true },
  },
  {
    path: '/posts/:id',
    name: 'post',
    component: () => import('@/views/PostView.vue'),
    props: true,
    meta: { title: 'title.post' },
  },
  {
    path: '/write',
    name: 'write',
    component: () => import('@/views/EditorView.vue'),
    meta: { title: 'title.write', requiresAuth: true },
  },
  {
    path: '/posts/:id/edit',
    name: 'edit',
    component: () => import('@/views/EditorView.vue'),
    props: true,
    meta: { title: 'title.edit', requiresAuth: true },
  },
  {
    path: '/exports',
    name: 'exports',
    component: () => import('@/views/ExportsView.vue'),
    meta: { title: 'nav.exports', requiresAuth: true },
  },
  settings,
  admin,
  {
    path: '/forbidden',
    name: 'forbidden',
    component: () => import('@/views/ForbiddenView.vue'),
    meta: { title: 'title.forbidden' },
  },
  {
    path: '/:path(.*)*',
    name: 'notFound',
    component: () => import('@/views/NotFoundView.vue'),
    meta: { title: 'title.notFound' },
  },
]
