/** Links between documents lead to files and headings that exist; in what is published, to files that are published too. */

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const { files } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { files: string[] }
/** npm always publishes these two. */
const PUBLISHED = [...files, 'README.md', 'LICENSE']

const below = (folder: string): string[] =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join(folder, name))
const DOCUMENTS = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md', 'test/README.md', ...below('docs')]

const published = (path: string): boolean => PUBLISHED.some((each) => path === each || path.startsWith(`${each}/`))

/** The anchors of a document, as its headings give them. */
const anchors = (path: string): string[] =>
  [...readFileSync(join(ROOT, path), 'utf8').matchAll(/^#+ (.*)/gm)].map(([, title]) =>
    title!
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  )

describe.each(DOCUMENTS)('%s', (document) => {
  const text = readFileSync(join(ROOT, document), 'utf8').replace(/```[\s\S]*?```/g, '')
  const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link!).filter((link) => !/^https?:/.test(link))

  it('links to what exists, and if it is published, to what is published', () => {
    for (const link of links) {
      const [path, anchor] = link.split('#')
      const target = path ? normalize(join(dirname(document), path)) : document
      expect(existsSync(join(ROOT, target)), `${document} links to ${link}`).toBe(true)
      if (anchor) expect(anchors(target), `${document} links to ${link}`).toContain(anchor)
      if (published(document))
        expect(published(target), `${document} links to ${link}, which is not published`).toBe(true)
    }
  })
})
