import { defineConfigWithVueTs, vueTsConfigs } from '@vue/eslint-config-typescript'
import prettier from 'eslint-config-prettier/flat'
import pluginVue from 'eslint-plugin-vue'
import a11y from 'eslint-plugin-vuejs-accessibility'

export default defineConfigWithVueTs(
  { ignores: ['dist/**', 'coverage/**', 'src/**/*.gen.ts'] },
  pluginVue.configs['flat/recommended'],
  a11y.configs['flat/recommended'],
  vueTsConfigs.strict,
  {
    files: ['src/**/*.{ts,vue}', 'tests/**/*.ts'],
    rules: {
      'vue/block-lang': ['error', { script: { lang: 'ts' } }],
      'vue/block-order': ['error', { order: ['script', 'template', 'style'] }],
      'vue/define-macros-order': 'error',
      'vue/require-default-prop': 'off', // TypeScript says which props are optional.
      'vuejs-accessibility/label-has-for': 'off', // Wants nesting and an id; one of the two is enough.
      'vuejs-accessibility/no-autofocus': 'off', // Signing in and up: the page is its form.
      'vuejs-accessibility/no-static-element-interactions': 'error',
    },
  },
  prettier,
)
