/** The daemon of a test: it starts, serves domain 0 and guests, and leaves nothing. */

import { existsSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { describe, expect, it } from 'vitest'
import { Faults, ParameterError } from '../../src/index.js'
import { xenstored } from '../../src/node/index.js'
import { mistakes, runSnippet, snippetsOf } from '../snippets.js'

describe('xenstored()', () => {
  it('XS-sock-1: serves domain 0 and guests until its block ends, and leaves no file', async () => {
    let path = ''
    {
      await using daemon = await xenstored({ guests: [5], load: '/a = "1"   (n0,r5)\n' })
      path = daemon.path
      const [dom0, guest] = [await daemon.client(), await daemon.client(5)]
      expect(await guest.read('/a')).toBe('1')
      await dom0.write('/b', 'x')
      await expect(guest.read('/b')).rejects.toMatchObject({ code: 'EACCES' })
      expect(daemon.store.connections.filter(({ privileged }) => !privileged).map(({ domid }) => domid)).toEqual([5, 5])
    }
    expect(existsSync(dirname(path))).toBe(false)
  })

  it('XS-sock-4: several clients of a guest are users of one kernel: each has watches and transactions of its own', async () => {
    await using daemon = await xenstored({ guests: [5] })
    const dom0 = await daemon.client()
    await dom0.mkdir('/local/domain/5')
    await dom0.setPermissions('/local/domain/5', [{ domid: 5, letter: 'n' }])
    const [one, two] = [await daemon.client(5), await daemon.client(5)]
    const watch = await one.watch('/local/domain/5/x')
    two.close()
    // The first event says that the watch is there; one that waits already is not told twice.
    const events = watch[Symbol.asyncIterator]()
    await events.next()
    await dom0.write('/local/domain/5/x', '1')
    expect((await events.next()).value.path).toBe('/local/domain/5/x')
    one.close()
    await dom0.read('/')
    expect(daemon.store.connections.filter(({ openWatches }) => openWatches > 0)).toEqual([])
  })

  it('fails as its faults say, and stops twice without harm', async () => {
    const daemon = await xenstored({ daemon: { faults: new Faults().fail({ call: 'mkdir', errno: 'ENOSPC' }) } })
    const client = await daemon.client()
    await expect(client.mkdir('/a')).rejects.toMatchObject({ code: 'ENOSPC' })
    await daemon.stop()
    await daemon.stop()
    await expect(daemon.client()).rejects.toThrow()
  })

  it.each([[{ guest: [5] }], [{ guests: [0] }], [{ load: 5 }], [{ daemon: { quota: {} } }]])(
    'refuses %j',
    async (options) => {
      await expect(xenstored(options as never)).rejects.toThrow(ParameterError)
    },
  )

  it('turns the clients of a guest away that was released', async () => {
    await using daemon = await xenstored({ guests: [5] })
    const dom0 = await daemon.client()
    await dom0.release(5)
    const client = await daemon.client(5).catch(() => undefined)
    await expect(client?.read('/') ?? Promise.reject(new Error('none'))).rejects.toThrow()
  })
})

describe('docs/xenstored.md', () => {
  const [example] = snippetsOf(readFileSync(new URL('../../docs/xenstored.md', import.meta.url), 'utf8'))

  it('shows TypeScript that compiles under strict, and runs', () => {
    expect(mistakes([example!], 'xenstored')).toEqual([])
    const { status, stdout, stderr } = runSnippet(example!.code, 'xenstored')
    expect([status, stdout, stderr]).toEqual([0, 'vif\n', ''])
  })
})
