import vue from '@vitejs/plugin-vue'
import { fileURLToPath } from 'node:url'
import { loadEnv } from 'vite'
import { defineConfig } from 'vitest/config'

export default defineConfig(({ mode }) => ({
  plugins: [vue()],
  resolve: { alias: { '@': fileURLToPath(new URL('./src', import.meta.url)) } },
  // Nothing is inlined: a data: URL would need its own line in the Content-Security-Policy.
  build: { assetsInlineLimit: 0, target: 'es2022', reportCompressedSize: false },
  server: {
    host: '127.0.0.1',
    port: 5173,
    strictPort: true,
    proxy: {
      '/api': { target: loadEnv(mode, import.meta.dirname, 'API_').API_ORIGIN ?? 'http://127.0.0.1:8000' },
    },
  },
  test: {
    environment: 'jsdom',
    include: ['tests/**/*.test.ts'],
    setupFiles: 'tests/setup.ts',
    restoreMocks: true,
    testTimeout: 30_000,
    coverage: {
      include: ['src/**/*.{ts,vue}'],
      exclude: ['src/**/*.gen.ts', 'src/main.ts'],
      thresholds: { statements: 90 },
      reporter: ['text', 'text-summary'],
    },
  },
}))
