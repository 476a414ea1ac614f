/** The examples run as they are written. `npm run typecheck` holds them to strict types. */

import { spawnSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { exampleFile } from './snippets.js'

describe('examples', () => {
  it.each([
    ['ping-pong', '1000 replies\n'],
    ['threads', '1000 round trips between two threads\n'],
    ['raw-three-levels', 'up to 4 levels, 512 leaf pages per bitmap\n262144 channels\nport 1: leaf word 0 is 0x2\n'],
    [
      'pvcalls',
      'the guest fetched: Node has /index.html\nNode fetched: the guest has /hello\n2 workers were made, 0 are left, they moved bytes both ways\n',
    ],
    ['migration', 'refused: 3 levels are asked for, 2 granted\nmoved: 3 levels, event on port 1\n'],
    [
      'xenstore',
      'I am guest\nREAD /tool: EACCES\nchanged: device\nchanged: device/vif/0/state\nstate 3 at attempt 2\n',
    ],
    [
      'xenwatch',
      [
        'single: xenwatch in kthread_stop',
        '  xl create: failed, 7 lines after 20.0 s',
        '  after the release: done',
        ...['rfc', 'talk', 'on-demand'].flatMap((design) => [
          `${design}: xen-mtwatch-1 in kthread_stop`,
          '  xl create: done after 0.1 s',
          '  after the release: done',
        ]),
        '',
      ].join('\n'),
    ],
  ])('%s prints what it says', (name, prints) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [exampleFile(name)], { encoding: 'utf8' })
    expect(stderr).toBe('')
    expect(stdout).toBe(prints)
    expect(status).toBe(0)
  })
})
